//! The schedule of reports of jobs that run for long (`--slow-after`).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::running_job::RunningJob;

/// The least time between two checks, which look at all running jobs.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// The schedule of the reports of slow jobs.
pub(crate) struct SlowJobs {
    after: Duration,
    /// No running job has to be reported before.
    next: Option<Instant>,
}

impl SlowJobs {
    pub(crate) fn new(after: Duration) -> Self {
        Self { after, next: None }
    }

    /// Adds a job. Returns the time of its first report, unless the clock cannot represent it.
    pub(super) fn add(&mut self, start: Instant) -> Option<Instant> {
        let due = start.checked_add(self.after)?;
        self.next = Some(self.next.map_or(due, |next| next.min(due)));
        Some(due)
    }

    /// Whether a job that ran for this time was slow.
    pub(super) fn is_slow(&self, time: Duration) -> bool {
        time >= self.after
    }

    /// The time until the next check.
    pub(crate) fn wait_timeout(&self) -> Option<Duration> {
        Some(self.next?.saturating_duration_since(Instant::now()))
    }

    /// The jobs to report, with the times for which they have run. The next report of a job comes
    /// after twice the time.
    pub(super) fn take_due(
        &mut self,
        running: &mut HashMap<u64, RunningJob>,
    ) -> Vec<(u64, Duration)> {
        let now = Instant::now();
        if self.next.is_none_or(|next| now < next) {
            return Vec::new();
        }
        let mut slow = Vec::new();
        self.next = None;
        for (&number, running) in running.iter_mut().filter(|(_, job)| job.exit.is_none()) {
            let start = running.start_time.instant;
            let Some(mut due) = running.slow_due else {
                continue;
            };
            if due <= now {
                slow.push((number, now - start));
                // If the process was stopped meanwhile, several reports are due, and one is enough.
                while due <= now {
                    match start.checked_add((due - start).saturating_mul(2)) {
                        Some(next) => due = next,
                        None => break,
                    }
                }
                running.slow_due = Some(due).filter(|&due| due > now);
            }
            let due = running.slow_due;
            self.next = [self.next, due].into_iter().flatten().min();
        }
        let earliest = now + CHECK_INTERVAL;
        self.next = self.next.map(|next| next.max(earliest));
        slow.sort_unstable();
        slow
    }
}
