//! How many jobs are taken ahead of time.
//!
//! A job that waits here is one that no other machine can take. So with long jobs none waits. With
//! short ones the next is here before a place is free, since the server answers in about a
//! millisecond.

use std::time::{Duration, Instant};

/// Jobs are counted over this time.
const WINDOW: Duration = Duration::from_millis(100);
/// The most jobs that wait here.
const AHEAD_MAX: usize = 512;

/// Counts the jobs that have ended.
pub(super) struct Pace {
    window: Instant,
    count: usize,
    before: usize,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            window: now,
            count: 0,
            before: 0,
        }
    }

    pub(super) fn ended(&mut self, now: Instant) {
        self.turn(now);
        self.count += 1;
    }

    fn turn(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.window);
        if passed >= WINDOW {
            self.before = match passed < 2 * WINDOW {
                true => self.count,
                false => 0,
            };
            self.count = 0;
            self.window = now;
        }
    }

    /// As many jobs as end in about a fifth of a second.
    pub(super) fn ahead(&mut self, now: Instant) -> usize {
        self.turn(now);
        // A single job says little.
        (2 * self.count.max(self.before))
            .saturating_sub(2)
            .min(AHEAD_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_short_jobs_are_taken_ahead_of_time() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut pace = Pace::new(start);
        assert_eq!(pace.ahead(at(0)), 0);
        pace.ended(at(50));
        assert_eq!(pace.ahead(at(60)), 0);
        for _ in 0..20 {
            pace.ended(at(70));
        }
        assert_eq!(pace.ahead(at(80)), 40);
        assert_eq!(pace.ahead(at(120)), 40);
        // Nothing has ended for a while.
        assert_eq!(pace.ahead(at(400)), 0);
        for _ in 0..10_000 {
            pace.ended(at(450));
        }
        assert_eq!(pace.ahead(at(451)), AHEAD_MAX);
    }
}
