//! What the supervisor passes on to the observers of the run.

use super::Supervisor;
use crate::run::output_tail::{TOGETHER_MAX, Tail};
use crate::run::report::record::Record;

impl Supervisor {
    /// Passes on an attempt that has ended. `last`: the job is not run again. `piped`: the end of
    /// what it wrote to pipes.
    pub(super) fn observe(&mut self, record: &Record<'_>, last: bool, piped: Option<Tail>) {
        let failed = last && !record.success && !record.interrupted;
        if let (Some(watch), true) = (&mut self.watch, failed) {
            watch.add_failed(record);
        }
        let Some(observers) = &mut self.observers else {
            return;
        };
        // Files are read only where they are shown.
        let read = || {
            let destination = &self.spawner.destination;
            let [out, err] = destination.output_tail(record.job, TOGETHER_MAX / 2)?;
            let omitted = out.omitted() + err.omitted();
            Some(Tail::after(omitted, [out.bytes(), err.bytes()].concat()))
        };
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
