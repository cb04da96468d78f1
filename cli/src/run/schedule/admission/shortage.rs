//! A resource of the machine that ran out, so that fewer jobs run than are allowed.
//!
//! The ends of jobs raise the capacity again. So does time, because jobs may run for hours, and
//! another program may have freed the resource.

use std::time::{Duration, Instant};

use super::State;

/// The time until the capacity grows, and the longest one. It doubles each time that the next start
/// fails.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(32);

pub(super) struct Shortage {
    grows_at: Instant,
    pause: Duration,
    /// By how much the capacity grows. It is 1 after a start has failed, and doubles each time.
    step: usize,
}

impl Shortage {
    fn after(pause: Duration) -> Self {
        Self {
            grows_at: Instant::now() + pause,
            pause,
            step: 1,
        }
    }
}

impl State {
    /// Reduces the capacity to the active jobs after a start has failed, and returns it.
    pub(super) fn reduce_capacity(&mut self) -> usize {
        self.capacity = self.used().clamp(1, self.capacity_max);
        self.released = 0;
        let pause = match &self.shortage {
            // Starts of several spawners failed at once.
            Some(Shortage { step: 1, .. }) => return self.capacity,
            Some(Shortage { step: 2, pause, .. }) => (*pause * 2).min(PAUSE_MAX),
            _ => PAUSE,
        };
        self.shortage = Some(Shortage::after(pause));
        self.capacity
    }

    /// Raises the capacity if it is time to. Returns whether it did.
    pub(super) fn grow_capacity(&mut self) -> bool {
        if self.capacity_wait() != Some(Duration::ZERO) {
            return false;
        }
        let Some(shortage) = &mut self.shortage else {
            return false;
        };
        self.capacity = (self.capacity + shortage.step).min(self.capacity_max);
        shortage.step *= 2;
        shortage.grows_at = Instant::now() + PAUSE;
        if self.capacity == self.capacity_max {
            self.shortage = None;
        }
        true
    }

    /// The time until the capacity grows, if it does.
    pub(super) fn capacity_wait(&self) -> Option<Duration> {
        let shortage = self.shortage.as_ref()?;
        let starts_jobs = !self.closed && !self.paused;
        starts_jobs.then(|| shortage.grows_at.saturating_duration_since(Instant::now()))
    }
}
