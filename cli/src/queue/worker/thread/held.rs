//! A lease.

use std::time::Duration;

use async_nats::Subject;

/// A job whose lease this worker has.
pub(super) struct Held {
    pub(super) reply: Subject,
    pub(super) delivery: u64,
    /// How often the consumer that delivered it was recreated.
    pub(super) recreations: u64,
    /// How often it was given back before this delivery.
    pub(super) given_back: u64,
    /// How often this worker got it again.
    pub(super) again: u64,
    /// It was delivered at this time or later.
    pub(super) taken: Duration,
    /// The server may have given it to another worker.
    pub(super) doubtful: bool,
}
