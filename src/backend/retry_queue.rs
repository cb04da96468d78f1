//! Watches that are armed again after a delay, because a resource ran out.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::sync::shrink::ShrinkIfSparse;

/// The delay before the first retry.
pub(super) const RETRY_DELAY: Duration = Duration::from_millis(10);
/// The further delay for each entry in the queue, so that retries do not take all the time.
const RETRY_DELAY_PER_ENTRY: Duration = Duration::from_micros(20);

/// The keys of the slots, in the order in which they were queued. An entry that is due before one
/// in front of it waits for that one.
#[derive(Default)]
pub(super) struct RetryQueue(VecDeque<(Instant, u32)>);

impl RetryQueue {
    pub(super) fn push(&mut self, key: u32) {
        let after = RETRY_DELAY + RETRY_DELAY_PER_ENTRY * self.0.len() as u32;
        self.0.push_back((Instant::now() + after, key));
    }

    /// Removes the first entry if it is due.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<u32> {
        let (at, _) = self.0.front()?;
        if *at > now {
            return None;
        }
        self.0.pop_front().map(|(_, key)| key)
    }

    /// When the first entry is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.0.front().map(|(at, _)| *at)
    }

    pub(super) fn shrink(&mut self) {
        self.0.shrink_if_sparse();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
