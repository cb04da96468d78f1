//! What collects every attempt of a run.

use super::html::collector::{Collector, RunEnd};
use super::html::page_file::PageFile;
use super::record::Record;
use super::trace::Trace;
use crate::failure::Failure;
use crate::run::output_tail::Tail;

/// The observers of a run. Without any of them there is no value of this type.
pub(crate) struct Observers {
    trace: Option<Trace>,
    page: Option<(PageFile, Collector)>,
    /// A file could not be written, which was reported.
    incomplete: bool,
}

impl Observers {
    /// `None` if there is nothing to collect for.
    pub(crate) fn new(trace: Option<Trace>, page: Option<PageFile>) -> Option<Box<Self>> {
        if trace.is_none() && page.is_none() {
            return None;
        }
        Some(Box::new(Self {
            trace,
            page: page.map(|file| (file, Collector::new())),
            incomplete: false,
        }))
    }

    /// Whether the output of failed jobs is shown.
    pub(crate) fn wants_output(&self) -> bool {
        self.page.is_some()
    }

    /// Adds an attempt that has ended. `last`: the job is not run again. `output`: the end of what
    /// it wrote, if that is known.
    pub(crate) fn attempt_ended(&mut self, record: &Record<'_>, last: bool, output: Option<Tail>) {
        if let Some(trace) = &mut self.trace {
            trace.add(record, last);
        }
        if let Some((_, collector)) = &mut self.page {
            collector.add(record, last, output);
        }
    }

    /// Adds a request to end.
    pub(crate) fn interrupted(&mut self, signal: i32) {
        if let Some(trace) = &mut self.trace {
            trace.interrupted(signal);
        }
        if let Some((_, collector)) = &mut self.page {
            collector.interrupted(signal);
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
    pub(crate) fn finish(self, end: RunEnd) -> (Vec<Failure>, bool) {
        let trace = self.trace.map_or(Ok(()), Trace::finish);
        let page = self
            .page
            .map_or(Ok(()), |(file, collector)| file.write(&collector.page(end)));
        let failures: Vec<_> = [trace, page].into_iter().filter_map(Result::err).collect();
        let complete = !self.incomplete && failures.is_empty();
        (failures, complete)
    }
}
