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
/// So many fit into a slice, if the kernel is quick. A slice too long is cut in half, one too short is doubled.
const AT_ONCE_MAX: usize = 1024;

pub(super) struct Abandoned {
    /// The generation, which grows with each poll, and the key.
    polls: BTreeSet<(u32, u32)>,
    at_once: usize,
    rest_until: Option<Instant>,
}

impl Abandoned {
    pub(super) fn new() -> Self {
        Self {
            polls: BTreeSet::new(),
            at_once: 64,
            rest_until: None,
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
        (!self.polls.is_empty()).then(|| self.rest_until.unwrap_or(now))
    }

    /// The polls to be removed in a slice, which is due.
    pub(super) fn take_slice(&mut self) -> impl Iterator<Item = Token> {
        std::iter::from_fn(|| self.polls.pop_last())
            .take(self.at_once)
            .map(|(generation, key)| Token {
                kind: Kind::Poll,
                key,
                generation,
            })
    }

    /// The slice is over.
    pub(super) fn rest(&mut self, began: Instant, now: Instant) {
        let took = now.saturating_duration_since(began);
        self.at_once = match took {
            _ if took > SLICE => self.at_once / 2,
            _ if took < SLICE / 2 => self.at_once * 2,
            _ => self.at_once,
        }
        .clamp(1, AT_ONCE_MAX);
        self.rest_until = Some(now + took * REST);
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
        let mut abandoned = Abandoned::new();
        for generation in [5, 1, 9, 3, 7] {
            abandoned.push(poll(generation));
        }
        abandoned.completed(poll(7));
        abandoned.at_once = 2;
        let slice: Vec<_> = abandoned.take_slice().collect();
        assert_eq!(slice, [poll(9), poll(5)]);
        assert_eq!(abandoned.len(), 2);
    }

    #[test]
    fn a_slice_that_took_long_is_followed_by_a_shorter_one_after_a_longer_rest() {
        let mut abandoned = Abandoned::new();
        let now = Instant::now();
        assert_eq!(abandoned.next(now), None);
        abandoned.push(poll(1));
        assert_eq!(abandoned.next(now), Some(now));
        for (took, at_once) in [(SLICE * 2, 32), (SLICE, 32), (Duration::ZERO, 64)] {
            abandoned.rest(now, now + took);
            assert_eq!(abandoned.at_once, at_once);
            assert_eq!(abandoned.next(now), Some(now + took * (1 + REST)));
        }
        for _ in 0..20 {
            abandoned.rest(now, now + SLICE * 2);
        }
        assert_eq!(abandoned.at_once, 1);
    }
}
