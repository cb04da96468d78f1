//! A new deadline of a child, and the key of one that is set.

use std::time::{Duration, Instant};

/// When the child is to be terminated (`None`: never), and the grace after that before it is
/// killed.
#[derive(Clone, Copy)]
pub(crate) struct NewDeadline {
    pub(crate) at: Option<Instant>,
    pub(crate) grace: Duration,
}

/// The time, and a number that makes the key unique.
pub(crate) type DeadlineKey = (Instant, u64);
