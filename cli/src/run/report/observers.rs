//! What collects every attempt of a run.

use super::record::Record;
use super::trace::Trace;
use crate::failure::Failure;

/// The observers of a run. Without any of them there is no value of this type.
pub(crate) struct Observers {
    trace: Option<Trace>,
    /// A file could not be written, which was reported.
    incomplete: bool,
}

impl Observers {
    /// `None` if there is nothing to collect for.
    pub(crate) fn new(trace: Option<Trace>) -> Option<Box<Self>> {
        trace.as_ref()?;
        Some(Box::new(Self {
            trace,
            incomplete: false,
        }))
    }

    /// Adds an attempt that has ended. `last`: the job is not run again.
    pub(crate) fn attempt_ended(&mut self, record: &Record<'_>, _last: bool) {
        if let Some(trace) = &mut self.trace {
            trace.add(record);
        }
    }

    /// Adds a request to end.
    pub(crate) fn interrupted(&mut self, signal: i32) {
        if let Some(trace) = &mut self.trace {
            trace.interrupted(signal);
        }
    }

    /// Writes what was collected, as far as it is written while the run goes on. After a failure
    /// the file is not written any more.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        let flushed = self.trace.as_mut().map_or(Ok(()), Trace::flush);
        if flushed.is_err() {
            self.trace = None;
            self.incomplete = true;
        }
        flushed
    }

    /// Completes the files at the end of the run. Returns the failures, and whether every file is
    /// complete.
    pub(crate) fn finish(self) -> (Vec<Failure>, bool) {
        let failures: Vec<_> = self
            .trace
            .and_then(|trace| trace.finish().err())
            .into_iter()
            .collect();
        let complete = !self.incomplete && failures.is_empty();
        (failures, complete)
    }
}
