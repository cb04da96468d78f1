//! A child's deadline.

use std::time::{Duration, Instant};

/// When the child is to end (never, if there is no time), and how long after that for good.
#[derive(Clone, Copy)]
pub(crate) struct NewDeadline {
    pub(crate) at: Option<Instant>,
    pub(crate) grace: Duration,
}

/// The time, and a number that makes it unique.
pub(crate) type DeadlineKey = (Instant, u64);
