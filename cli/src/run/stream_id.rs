//! The identifier of one output stream of one attempt at a job.

/// The index of standard output among the streams of a job.
pub(crate) const STDOUT: usize = 0;

/// The lower bits hold the job's number and the index of the stream.
const ATTEMPT_SHIFT: u32 = 52;
/// The number of an attempt is stored modulo this mask plus one. That is enough to tell a pipe from
/// the pipes of earlier attempts.
const ATTEMPT_MASK: u64 = (1 << (64 - ATTEMPT_SHIFT - 1)) - 1;

/// One stream of one attempt at a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct StreamId {
    /// The job's number.
    pub(crate) job: u64,
    attempt: u64,
    /// The index of the stream: standard output or standard error.
    pub(crate) stream: usize,
}

impl StreamId {
    pub(crate) fn new(job: u64, attempt: u32, stream: usize) -> Self {
        let attempt = u64::from(attempt) & ATTEMPT_MASK;
        Self {
            job,
            attempt,
            stream,
        }
    }

    /// Packs the identifier into an integer.
    pub(crate) fn to_bits(self) -> u64 {
        (self.attempt << ATTEMPT_SHIFT) + self.job * 2 + self.stream as u64
    }

    pub(crate) fn from_bits(bits: u64) -> Self {
        Self {
            job: (bits & ((1 << ATTEMPT_SHIFT) - 1)) / 2,
            attempt: bits >> ATTEMPT_SHIFT,
            stream: (bits % 2) as usize,
        }
    }

    /// The first stream of the same attempt.
    pub(crate) fn first(self) -> Self {
        Self { stream: 0, ..self }
    }

    /// Both streams of an attempt.
    pub(crate) fn both(job: u64, attempt: u32) -> [Self; 2] {
        [0, 1].map(|stream| Self::new(job, attempt, stream))
    }
}
