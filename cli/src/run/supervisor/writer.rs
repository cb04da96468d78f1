//! The supervisor's output: messages, the output of jobs, and the progress bar.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::Supervisor;
use super::shutdown::Stop;
use crate::failure::Failure;
use crate::run::output::job_output::Forwarded;
use crate::run::output::std_streams::WriteError;
use crate::run::report::progress::ProgressCounts;

/// How many pieces of waiting output are forwarded between other work.
const FORWARDED_AT_ONCE: usize = 64;
/// After a request to end, a flush waits for readers this long at a time, between other work.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(100);

impl Supervisor {
    pub(super) fn report_capacity(&mut self, capacity: usize, reason: &str) {
        if !std::mem::replace(&mut self.capacity_reported, true) {
            self.report(&format!(
                "only {capacity} jobs run at a time, fewer than -j allows: {reason}\n"
            ));
        }
    }

    pub(super) fn report_closed_pipes(&mut self) {
        if !std::mem::replace(&mut self.closed_pipes_reported, true) {
            self.report(
                "background processes of ended jobs hold too many pipes: the oldest pipes were \
                 closed, and a process that writes to them gets SIGPIPE (--log, --append, --discard and \
                 redirections need no pipes; a higher ulimit -n allows more)\n",
            );
        }
    }

    pub(super) fn report(&mut self, text: &str) {
        self.std_streams.report(text);
    }

    pub(super) fn flush(&mut self) {
        let now = Instant::now();
        let until = self.shutdown.output_deadline();
        self.flush_until(until.map(|until| until.min(now + FLUSH_TIMEOUT)));
        // Readers have no time left. A job that cannot be ended may go on writing, and memory would
        // grow.
        if until.is_some_and(|until| until <= now) {
            self.std_streams.discard();
        }
        self.write_log();
    }

    /// Writes the records of the job log whose output has been written.
    fn write_log(&mut self) {
        let Some(joblog) = &mut self.joblog else {
            return;
        };
        let records = self.std_streams.take_log_records();
        if !records.is_empty()
            && let Err(failure) = joblog.append(&records)
        {
            self.stop(Stop::Soon, Some(failure));
        }
    }

    /// Reports jobs that have ended and are not in the job log, at the end of the run.
    pub(super) fn report_dropped_records(&mut self) {
        if self.joblog.is_none() {
            return;
        }
        self.std_streams.drop_waiting_records();
        let jobs = match self.std_streams.dropped_log_records() {
            0 => return,
            1 => "a job".into(),
            dropped => format!("{dropped} jobs"),
        };
        self.report(&format!(
            "the output of {jobs} could not be passed on in full: --resume runs what is not in the job log again\n"
        ));
        self.flush_remaining();
    }

    /// Flushes after all jobs have ended: until everything is written, or the grace is over.
    pub(super) fn flush_remaining(&mut self) {
        loop {
            let until = self.shutdown.output_deadline();
            self.flush_until(until);
            self.handle_signals();
            self.write_log();
            if self.std_streams.is_empty() || until.is_some_and(|until| until <= Instant::now()) {
                return self.std_streams.discard();
            }
        }
    }

    /// Forwards output whose turn has come (`--keep-order`), a limited amount at a time.
    /// Returns whether there is more.
    pub(super) fn forward_in_order(&mut self) -> bool {
        let mut more = true;
        self.more_output = true;
        for _ in 0..FORWARDED_AT_ONCE {
            match self.std_streams.forward_next() {
                Forwarded::More => {}
                Forwarded::Live(job) => {
                    if let Some(running) = self.running.get(&job) {
                        let attempt = running.job.attempt;
                        self.pipes
                            .continue_live(job, attempt, &mut self.std_streams);
                    }
                }
                Forwarded::Nothing => {
                    more = false;
                    break;
                }
            }
            if self.std_streams.is_large() {
                self.flush();
                if self.std_streams.is_large() {
                    // The reader does not read. The next write is tried a little later.
                    self.more_output = false;
                    break;
                }
            }
        }
        if let Some(error) = self.std_streams.take_order_failure() {
            let dir = std::env::temp_dir();
            let what = format!(
                "output that waits for its turn (--keep-order), in {}",
                dir.display()
            );
            self.stop(Stop::Now, Some(Failure::writing(&what, &error)));
        }
        self.more_output &= more;
        more
    }

    /// Forwards all output that waits, in the order of the list, after all jobs have ended.
    pub(super) fn forward_remaining(&mut self) {
        self.std_streams.end_list();
        while self.forward_in_order() {
            if self.std_streams.is_large() {
                self.flush_remaining();
                let until = self.shutdown.output_deadline();
                if until.is_some_and(|until| until <= Instant::now()) {
                    return;
                }
            }
        }
    }

    fn flush_until(&mut self, until: Option<Instant>) {
        if self.std_streams.is_empty() {
            return;
        }
        let begun = Instant::now();
        let (std_streams, signals) = (&mut self.std_streams, &self.signals);
        let flushed = match std_streams.may_be_on_terminal() {
            true => self
                .progress
                .suspend(|| std_streams.flush(signals.as_fd(), until)),
            false => std_streams.flush(signals.as_fd(), until),
        };
        self.pipes.extend_deadlines(begun.elapsed());
        match flushed {
            // A signal is handled next, or was, and the rest is written later.
            Ok(()) | Err(WriteError::Blocked) => {}
            Err(WriteError::Closed) => {
                self.shutdown.set_stdout_closed();
                self.stop(Stop::Now, None);
            }
            Err(WriteError::Failed(error)) => {
                self.stop(Stop::Now, Some(Failure::writing("standard output", &error)));
            }
        }
    }

    pub(super) fn update_progress(&mut self) {
        let Self {
            progress,
            spawner,
            counts,
            summary,
            std_streams,
            ..
        } = self;
        if std_streams.holds_messages() {
            return;
        }
        progress.update(|| ProgressCounts {
            running: spawner.admission.active(),
            done: summary.finished() + counts.done_before(),
            failed: summary.failed() + counts.failed_before(),
            expected: counts.expected(),
            hold_reason: spawner.admission.hold_reason(),
        });
    }
}
