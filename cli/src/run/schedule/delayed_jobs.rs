//! Jobs that wait for the time of their next attempt.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::run::job::Job;

/// A job for another attempt.
#[derive(Debug)]
pub(crate) struct Retry {
    pub(crate) job: Job,
    /// The time until the attempt.
    pub(crate) delay: Option<Duration>,
}

/// Jobs by the time at which they can start.
#[derive(Debug, Default)]
pub(super) struct DelayedJobs {
    /// The second part of the key tells jobs of the same time apart.
    jobs: BTreeMap<(Instant, u64), Job>,
    added: u64,
}

impl DelayedJobs {
    pub(super) fn add(&mut self, due: Instant, job: Job) {
        self.jobs.insert((due, self.added), job);
        self.added += 1;
    }

    /// Removes the first job whose time has come.
    pub(super) fn pop_due(&mut self) -> Option<Job> {
        let entry = self.jobs.first_entry()?;
        let (due, _) = *entry.key();
        (due <= Instant::now()).then(|| entry.remove())
    }

    /// The time until the first job can start.
    pub(super) fn wait_timeout(&self) -> Option<Duration> {
        let ((due, _), _) = self.jobs.first_key_value()?;
        Some(due.saturating_duration_since(Instant::now()))
    }

    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.jobs.clear();
    }
}
