//! When children are to be told to end, and when they are made to.
//!
//! The ring thread's alone. All deadlines together cost the kernel one timer: the time-out of
//! the ring thread's wait.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::record::Record;
use crate::remnant::Remnant;

/// The time, and a number that makes it unique.
pub(crate) type DeadlineKey = (Instant, u64);

pub(crate) struct Deadlines {
    at: BTreeMap<DeadlineKey, Deadline>,
    last: u64,
}

enum Deadline {
    /// `SIGTERM`, and `SIGKILL` after so long.
    Terminate(Arc<Record>, Duration),
    /// `SIGKILL`.
    Kill(Arc<Record>),
    /// The same to those who outlived the leader of their group.
    KillRemnant(Remnant),
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
            let key = self.key(at);
            record.set_deadline(Some(key));
            self.at.insert(key, Deadline::Terminate(record, grace));
        }
    }

    fn key(&mut self, at: Instant) -> DeadlineKey {
        self.last += 1;
        (at, self.last)
    }

    /// The process has ended, or has another deadline. Returns what it had.
    fn take(&mut self, record: &Record) -> Option<(DeadlineKey, Deadline)> {
        if self.at.is_empty() {
            return None;
        }
        self.at.remove_entry(&record.set_deadline(None)?)
    }

    pub(crate) fn remove(&mut self, record: &Record) {
        self.take(record);
    }

    /// The process has ended. What it left of its group has the rest of the grace.
    pub(crate) fn ended(&mut self, record: &Record, remnant: Option<Remnant>) {
        if let Some((key, Deadline::Kill(_))) = self.take(record)
            && let Some(remnant) = remnant
            && !remnant.is_empty()
        {
            self.at.insert(key, Deadline::KillRemnant(remnant));
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
            match entry.remove() {
                Deadline::Terminate(record, grace) => {
                    let lives = record.signal_by_deadline(libc::SIGTERM);
                    // A time past the end of the clock never comes.
                    if lives && let Some(at) = now.checked_add(grace) {
                        let key = self.key(at);
                        record.set_deadline(Some(key));
                        self.at.insert(key, Deadline::Kill(record));
                    }
                }
                Deadline::Kill(record) => {
                    record.signal_by_deadline(libc::SIGKILL);
                }
                Deadline::KillRemnant(remnant) => remnant.kill(),
            }
        }
    }
}

impl Drop for Deadlines {
    /// Nobody will be there when the grace is over.
    fn drop(&mut self) {
        for deadline in std::mem::take(&mut self.at).into_values() {
            if let Deadline::KillRemnant(remnant) = deadline {
                remnant.kill();
            }
        }
    }
}
