//! What the supervisor passes on to the observers of the run.

use super::Supervisor;
use crate::run::report::record::Record;

impl Supervisor {
    /// Passes on an attempt that has ended. `last`: the job is not run again.
    pub(super) fn observe(&mut self, record: &Record<'_>, last: bool) {
        let failed = last && !record.success && !record.interrupted;
        if let (Some(watch), true) = (&mut self.watch, failed) {
            watch.add_failed(record);
        }
        let piped = self.pipes.end_tail(record.job);
        let Some(observers) = &mut self.observers else {
            return;
        };
        // Files are read only where they are shown.
        let read = || self.spawner.destination.tail(record.job);
        let shown = failed && observers.wants_output();
        let output = shown.then(|| piped.or_else(read)).flatten();
        observers.attempt_ended(record, last, output);
    }

    /// Writes what the observers have collected. A file that cannot be written is reported once,
    /// and the run continues without it: the jobs do not depend on it.
    pub(super) fn flush_observers(&mut self) {
        if let Some(observers) = &mut self.observers
            && let Err(failure) = observers.flush()
        {
            self.report(&failure.to_lines());
        }
    }
}
