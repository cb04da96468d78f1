//! The end of what a job has written.

/// The most bytes of each stream that are kept for `--junit`.
pub(crate) const STREAM_MAX: usize = 32 * 1024;
/// The same for the records of a queue, in which nothing else has the output. Two streams in which
/// JSON writes each byte as six fit into the 1 MiB that a server accepts unless it is configured
/// otherwise.
const RECORD_STREAM_MAX: usize = 64 * 1024;
/// The most bytes of both streams together that are kept.
pub(crate) const TOGETHER_MAX: usize = 4096;

/// How much of each stream is kept. `None`: nothing wants it.
pub(crate) fn stream_max(junit: bool, queue: bool) -> Option<usize> {
    match (junit, queue) {
        (_, true) => Some(RECORD_STREAM_MAX),
        (true, false) => Some(STREAM_MAX),
        (false, false) => None,
    }
}

/// The end of some output.
#[derive(Debug)]
pub(crate) struct Tail {
    max: usize,
    bytes: Vec<u8>,
    /// How many bytes came before.
    omitted: u64,
}

/// The ends of standard output and standard error.
pub(crate) type OutputTail = [Tail; 2];

/// What is kept of the output of an attempt, as far as something shows it.
#[derive(Debug, Default)]
pub(crate) struct AttemptTail {
    /// The streams by themselves (`--junit`).
    pub(crate) streams: Option<OutputTail>,
    /// Both streams, in the order in which they were read (`--report`, `--watch`).
    pub(crate) together: Option<Tail>,
}

impl Tail {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            max,
            bytes: Vec::new(),
            omitted: 0,
        }
    }

    /// The end of a stream of which only this is known.
    pub(crate) fn after(omitted: u64, bytes: Vec<u8>) -> Self {
        Self {
            max: bytes.len(),
            bytes,
            omitted,
        }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        // The buffer is shortened rarely, so that each byte is moved only once.
        if self.bytes.len() > 2 * self.max {
            self.shorten();
        }
    }

    fn shorten(&mut self) {
        let excess = self.bytes.len().saturating_sub(self.max);
        self.bytes.drain(..excess);
        self.omitted += excess as u64;
    }

    /// Shortens the tail to what is kept.
    pub(crate) fn finish(&mut self) {
        self.shorten();
        if self.omitted > 0 {
            // A character that was cut in two.
            let rest = self.bytes.iter().take(3);
            let rest = rest.take_while(|&&byte| byte & 0xc0 == 0x80).count();
            self.bytes.drain(..rest);
            self.omitted += rest as u64;
        }
        self.bytes.shrink_to_fit();
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many bytes came before.
    pub(crate) fn omitted(&self) -> u64 {
        self.omitted
    }

    /// Forgets the bytes, to save memory.
    pub(crate) fn clear(&mut self) {
        self.omitted += self.bytes.len() as u64;
        self.bytes = Vec::new();
    }

    /// The last line that is not blank, or the end of it.
    pub(crate) fn last_line(&self) -> Option<&[u8]> {
        let mut lines = self.bytes.rsplit(|&byte| byte == b'\n' || byte == b'\r');
        lines.find(|line| !line.trim_ascii().is_empty())
    }
}

impl Default for Tail {
    /// Of one stream.
    fn default() -> Self {
        Self::new(STREAM_MAX)
    }
}

impl AttemptTail {
    /// Shortens the tails to what is kept.
    pub(crate) fn finish(&mut self) {
        let streams = self.streams.iter_mut().flatten();
        streams.chain(&mut self.together).for_each(Tail::finish);
    }
}
