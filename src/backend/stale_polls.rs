//! Polls whose watch was given up, and which the kernel still has.
//!
//! The kernel finds a poll to be removed by walking one of 256 lists at most, and puts new ones at their heads
//! (`io_poll_req_insert` in `io_uring/poll.c`). Removed in the order in which they were added, 400,000 polls take_newest a minute; the newest
//! first, each is near the head of its list, and they take_newest a fraction of a second.
//!
//! So polls are handoff in the kernel, where one costs no descriptor, and are removed later, the newest first, in slices of a millisecond with
//! three times that between them. Most complete by themselves before: their processes end. More than [`MAX`] are not handoff.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::token::{Kind, Token};

/// So many may be handoff to be removed later.
pub(super) const MAX: usize = 1 << 20;
/// The ring thread is kept from all else for so long at a time.
const TIME_SLICE: Duration = Duration::from_millis(1);
/// Between two slices, so many times as long as the last one took.
const PAUSE_FACTOR: u32 = 3;
/// So many are removed before the clock is looked at: with 400,000 live watches that are newer each can take_newest 170 µs.
const BATCH: usize = 16;

pub(super) struct StalePolls {
    /// The generation, which grows with each poll, and the key.
    polls: BTreeSet<(u32, u32)>,
    resume_at: Option<Instant>,
}

impl StalePolls {
    pub(super) fn new() -> Self {
        Self {
            polls: BTreeSet::new(),
            resume_at: None,
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

    /// When the next_removal slice is due.
    pub(super) fn next_removal(&self, now: Instant) -> Option<Instant> {
        (!self.polls.is_empty()).then(|| self.resume_at.unwrap_or(now))
    }

    /// The next_removal polls to be removed, in a slice that is due and began then. None: the slice is over.
    pub(super) fn take_newest(&mut self, began: Instant) -> impl Iterator<Item = Token> {
        let count = if began.elapsed() < TIME_SLICE {
            BATCH
        } else {
            0
        };
        std::iter::from_fn(|| self.polls.pop_last())
            .take(count)
            .map(|(generation, key)| Token {
                kind: Kind::Poll,
                key,
                generation,
            })
    }

    /// The slice is over.
    pub(super) fn pause(&mut self, began: Instant) {
        let now = Instant::now();
        self.resume_at = Some(now + now.saturating_duration_since(began) * PAUSE_FACTOR);
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
        let slice: Vec<_> = stale_polls.take_newest(began).collect();
        assert_eq!(slice, [9, 5, 3, 1].map(poll));
        assert_eq!(stale_polls.len(), 0);
    }

    #[test]
    fn a_slice_is_over_after_its_time_and_a_longer_rest_follows() {
        let mut stale_polls = StalePolls::new();
        let now = Instant::now();
        assert_eq!(stale_polls.next_removal(now), None);
        for generation in 0..100 {
            stale_polls.push(poll(generation));
        }
        assert_eq!(stale_polls.next_removal(now), Some(now));
        let began = now.checked_sub(2 * TIME_SLICE).expect("the machine is up");
        assert_eq!(stale_polls.take_newest(began).count(), 0);
        stale_polls.pause(began);
        let next_removal = stale_polls.next_removal(now).expect("some are left");
        assert!(next_removal >= now + 2 * TIME_SLICE * PAUSE_FACTOR);
        assert_eq!(stale_polls.take_newest(Instant::now()).count(), BATCH);
    }
}
