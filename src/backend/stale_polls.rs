//! Polls whose watch was given up, and which the kernel still has.
//!
//! The kernel finds a poll to be removed by walking one of 256 lists at most, and puts new ones at their heads
//! (`io_poll_req_insert` in `io_uring/poll.c`). Removed in the order in which they were added, 400,000 polls take a minute; the newest
//! first, each is near the head of its list, and they take a fraction of a second.
//!
//! So polls are left in the kernel, where one costs no descriptor, and are removed later, the newest first, in slices of a millisecond with
//! three times that between them. Most complete by themselves before: their processes end. More than [`MAX`] are not left.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::token::{Kind, Token};

/// So many may be left to be removed later.
pub(super) const MAX: usize = 1 << 20;
/// The ring thread is kept from all else for so long at a time.
const SLICE: Duration = Duration::from_millis(1);
/// Between two slices, so many times as long as the last one took.
const REST: u32 = 3;
/// So many are removed before the clock is looked at: with 400,000 live watches that are newer each can take 170 µs.
const AT_ONCE: usize = 16;

pub(super) struct StalePolls {
    /// The generation, which grows with each poll, and the key.
    polls: BTreeSet<(u32, u32)>,
    retry_at: Option<Instant>,
}

impl StalePolls {
    pub(super) fn new() -> Self {
        Self {
            polls: BTreeSet::new(),
            retry_at: None,
        }
    }

    pub(super) fn push(&mut self, poll: Token) {
        self.polls.insert((poll.generation, poll.key));
    }

    /// The poll has completed by itself.
    pub(super) fn completed(&mut self, poll: Token) {
        self.polls.remove(&(poll.generation, poll.key));
    }

    pub(super) fn len(&self) -> usize {
        self.polls.len()
    }

    /// When the next slice is due.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        (!self.polls.is_empty()).then(|| self.retry_at.unwrap_or(now))
    }

    /// The next polls to be removed, in a slice that is due and began then. None: the slice is over.
    pub(super) fn take(&mut self, began: Instant) -> impl Iterator<Item = Token> {
        let count = if began.elapsed() < SLICE { AT_ONCE } else { 0 };
        std::iter::from_fn(|| self.polls.pop_last())
            .take(count)
            .map(|(generation, key)| Token {
                kind: Kind::Poll,
                key,
                generation,
            })
    }

    /// The slice is over.
    pub(super) fn rest(&mut self, began: Instant) {
        let now = Instant::now();
        self.retry_at = Some(now + now.saturating_duration_since(began) * REST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(generation: u32) -> Token {
        Token {
            kind: Kind::Poll,
            key: generation % 3,
            generation,
        }
    }

    #[test]
    fn the_newest_go_first_and_what_has_completed_not_at_all() {
        let mut stale_polls = StalePolls::new();
        for generation in [5, 1, 9, 3, 7] {
            stale_polls.push(poll(generation));
        }
        stale_polls.completed(poll(7));
        let began = Instant::now();
        let slice: Vec<_> = stale_polls.take(began).collect();
        assert_eq!(slice, [9, 5, 3, 1].map(poll));
        assert_eq!(stale_polls.len(), 0);
    }

    #[test]
    fn a_slice_is_over_after_its_time_and_a_longer_rest_follows() {
        let mut stale_polls = StalePolls::new();
        let now = Instant::now();
        assert_eq!(stale_polls.next(now), None);
        for generation in 0..100 {
            stale_polls.push(poll(generation));
        }
        assert_eq!(stale_polls.next(now), Some(now));
        let began = now.checked_sub(2 * SLICE).expect("the machine is up");
        assert_eq!(stale_polls.take(began).count(), 0);
        stale_polls.rest(began);
        let next = stale_polls.next(now).expect("some are left");
        assert!(next >= now + 2 * SLICE * REST);
        assert_eq!(stale_polls.take(Instant::now()).count(), AT_ONCE);
    }
}
