//! Watches that wait for the clock: something ran out, and is tried again after a while.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::sync::shrink::ShrinkIfSparse;

/// When something ran out, the next try is after this time.
pub(super) const RETRY_DELAY: Duration = Duration::from_millis(10);
/// And later if many rest, so that their tries are not all the work there is.
const RETRY_DELAY_PER_ENTRY: Duration = Duration::from_micros(20);

/// The keys of their slots, in the order in which they lay down. A later one may be due before one in front
/// of it, and then waits for it.
#[derive(Default)]
pub(super) struct RetryQueue(VecDeque<(Instant, u32)>);

impl RetryQueue {
    pub(super) fn push(&mut self, key: u32) {
        let after = RETRY_DELAY + RETRY_DELAY_PER_ENTRY * self.0.len() as u32;
        self.0.push_back((Instant::now() + after, key));
    }

    /// The next one whose time has come.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<u32> {
        let (at, _) = self.0.front()?;
        if *at > now {
            return None;
        }
        self.0.pop_front().map(|(_, key)| key)
    }

    /// When the next one is due.
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
