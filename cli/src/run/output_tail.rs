//! The end of what a job has written.

/// The most bytes of each stream that are kept.
pub(crate) const TAIL_MAX: usize = 32 * 1024;

/// The end of one output stream.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    bytes: Vec<u8>,
    /// How many bytes came before.
    omitted: u64,
}

/// The ends of standard output and standard error.
pub(crate) type OutputTail = [Tail; 2];

impl Tail {
    /// The end of a stream of which only this is known.
    pub(crate) fn after(omitted: u64, bytes: &[u8]) -> Self {
        let mut tail = Self {
            bytes: Vec::new(),
            omitted,
        };
        tail.push(bytes);
        tail
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        // The buffer is shortened rarely, so that each byte is moved only once.
        if self.bytes.len() > 2 * TAIL_MAX {
            self.shorten();
        }
    }

    fn shorten(&mut self) {
        let excess = self.bytes.len().saturating_sub(TAIL_MAX);
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
}
