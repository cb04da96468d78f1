//! When children are to be told to end, and when they are made to.
//!
//! The ring thread's alone. All deadlines together cost the kernel one timer: the time-out of
//! the ring thread's wait.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::record::Record;

/// The time, and a number that makes it unique.
pub(crate) type DeadlineKey = (Instant, u64);

pub(crate) struct Deadlines {
    at: BTreeMap<DeadlineKey, Deadline>,
    last: u64,
}

struct Deadline {
    record: Arc<Record>,
    next: Step,
}

enum Step {
    /// `SIGTERM`, and `SIGKILL` after so long.
    Terminate(Duration),
    /// `SIGKILL`.
    Kill,
}

impl Deadlines {
    pub(crate) fn new() -> Self {
        Self {
            at: BTreeMap::new(),
            last: 0,
        }
    }

    /// Sets a process's deadline, or none, instead of one that it has.
    pub(crate) fn set(&mut self, record: Arc<Record>, at: Option<Instant>, grace: Duration) {
        self.remove(&record);
        // After the exit, which the ring thread has seen, nothing would take it out again.
        if record.exit().is_none()
            && let Some(at) = at
        {
            self.insert(record, at, Step::Terminate(grace));
        }
    }

    fn insert(&mut self, record: Arc<Record>, at: Instant, next: Step) {
        self.last += 1;
        let key = (at, self.last);
        record.set_deadline(Some(key));
        self.at.insert(key, Deadline { record, next });
    }

    /// The process has ended, or has another deadline.
    pub(crate) fn remove(&mut self, record: &Record) {
        if self.at.is_empty() {
            return;
        }
        if let Some(key) = record.set_deadline(None) {
            self.at.remove(&key);
        }
    }

    /// How long until there is something to do.
    pub(crate) fn next(&self) -> Option<Duration> {
        let ((at, _), _) = self.at.first_key_value()?;
        Some(at.saturating_duration_since(Instant::now()))
    }

    /// Sends the signals that are due.
    pub(crate) fn work_off(&mut self) {
        if self.at.is_empty() {
            return;
        }
        let now = Instant::now();
        while let Some(entry) = self.at.first_entry()
            && entry.key().0 <= now
        {
            let Deadline { record, next } = entry.remove();
            match next {
                Step::Terminate(grace) => {
                    let lives = record.signal_by_deadline(libc::SIGTERM);
                    // A time past the end of the clock never comes.
                    if lives && let Some(at) = now.checked_add(grace) {
                        self.insert(record, at, Step::Kill);
                    }
                }
                Step::Kill => {
                    record.signal_by_deadline(libc::SIGKILL);
                }
            }
        }
    }
}
