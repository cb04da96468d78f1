//! Polls of abandoned watches that are still in the kernel.
//!
//! To remove a poll, the kernel walks one of at most 256 lists, and it adds new polls at their
//! heads (`io_poll_req_insert` in `io_uring/poll.c`). Removing 400,000 polls in the order in which
//! they were added takes a minute. Removed newest first, each is near the head of its list, and all
//! of them take a fraction of a second.
//!
//! So an abandoned poll stays in the kernel, where it costs no descriptor, and is removed later.
//! Removal runs newest first, in slices of a millisecond with pauses of three times that between
//! them. Most polls complete by themselves before that, because their processes end. At most
//! [`MAX`] polls are kept this way.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::token::{Kind, Token};

/// The most polls that are kept for later removal.
pub(super) const MAX: usize = 1 << 20;
/// How long one slice may occupy the ring thread.
const TIME_SLICE: Duration = Duration::from_millis(1);
/// The length of a pause, in multiples of the last slice.
const PAUSE_FACTOR: u32 = 3;
/// How many polls are removed between two checks of the clock. With 400,000 newer live watches,
/// each removal can take 170 µs.
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

    /// Forgets a poll that has completed by itself.
    pub(super) fn completed(&mut self, poll: Token) {
        self.polls.remove(&(poll.generation, poll.key));
    }

    pub(super) fn len(&self) -> usize {
        self.polls.len()
    }

    /// When the next slice is due.
    pub(super) fn next_removal(&self, now: Instant) -> Option<Instant> {
        (!self.polls.is_empty()).then(|| self.resume_at.unwrap_or(now))
    }

    /// Removes and returns the newest polls, in a slice that began at `began`; none if the slice is
    /// over.
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

    /// Ends a slice and begins the pause after it.
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

    /// The beginning of a slice that is not over, however slow the machine is.
    fn beginning() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn the_newest_polls_are_removed_first_and_completed_ones_never() {
        let mut stale_polls = StalePolls::new();
        for generation in [5, 1, 9, 3, 7] {
            stale_polls.push(poll(generation));
        }
        stale_polls.completed(poll(7));
        let slice: Vec<_> = stale_polls.take_newest(beginning()).collect();
        assert_eq!(slice, [9, 5, 3, 1].map(poll));
        assert_eq!(stale_polls.len(), 0);
    }

    #[test]
    fn a_slice_ends_after_its_time_and_a_longer_pause_follows() {
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
        assert_eq!(stale_polls.take_newest(beginning()).count(), BATCH);
    }
}
