//! The supervisor's entries in the JUnit report.

use super::Supervisor;
use super::shutdown::Stop;
use crate::run::job::Job;
use crate::run::output_tail::{AttemptTail, OutputTail, stream_max};
use crate::run::report::junit_case;
use crate::run::report::record::Record;

impl Supervisor {
    /// Takes the end of what an attempt has written, as far as something shows it.
    pub(super) fn take_output(&mut self, job: &Job) -> AttemptTail {
        let piped = self.pipes.take_tail(job.number, job.attempt);
        let mut output = piped.unwrap_or_default();
        #[cfg(feature = "queue")]
        let queue = self.queue.is_some();
        #[cfg(not(feature = "queue"))]
        let queue = false;
        let wanted = stream_max(self.junit.is_some(), queue);
        if let (Some(max), None) = (wanted, &output.streams) {
            let destination = &self.spawner.destination;
            output.streams = destination.output_tail(job.number, max);
        }
        output
    }

    /// Adds a job that has ended to the report. An error ends the run.
    pub(super) fn add_test_case(&mut self, job: &Job, record: &Record<'_>, output: &OutputTail) {
        let Some(junit) = &mut self.junit else { return };
        let case = junit_case::of_job(junit.suite(), job, record, output);
        if let Err(failure) = junit.add(case) {
            self.junit = None;
            self.report(&failure.to_lines());
            let _ = self.shutdown.fail(failure);
            self.stop(Stop::Soon, None);
        }
    }
}
