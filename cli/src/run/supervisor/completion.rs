//! The completion of jobs: why a job ended, whether it is retried, and its record.

use std::time::Instant;

use exitring::Exit;

use super::Supervisor;
use super::halt::Counted;
use super::pending_ends::{PendingEnd, died_of_shutdown_signal};
use super::running_job::{RunningJob, has_timed_out};
use super::shutdown::Stop;
use crate::run::job::{Job, StartTime};
use crate::run::output_tail::AttemptTail;
use crate::run::report::joblog::JobLog;
use crate::run::report::json::to_json_line;
use crate::run::report::junit_case;
use crate::run::report::record::{EndCause, Record};
use crate::run::schedule::delayed_jobs::Retry;
use crate::run::stream_id::STDOUT;

impl Supervisor {
    /// Completes a job whose process and output have ended.
    pub(super) fn end_job(&mut self, number: u64) {
        // The grace of its group is over, and a process is left.
        let denied = self
            .running
            .get(&number)
            .is_some_and(|running| running.was_in_grace && running.is_denied());
        let Some(RunningJob {
            mut job,
            start_time,
            child,
            exit,
            check,
            ended_by_run,
            ..
        }) = self.running.remove(&number)
        else {
            return;
        };
        if self
            .pipes
            .release_job(number, job.attempt, &mut self.std_streams)
        {
            self.report_closed_pipes();
        }
        let Some(exit) = exit else { return };
        if let Some(slow_jobs) = &self.slow_jobs {
            let time = exit.seen_at().saturating_duration_since(start_time.instant);
            job.slow |= slow_jobs.is_slow(time);
        }
        let output = self.take_output(&job);
        if denied {
            self.report(&format!(
                "job {number} has ended, but processes of its group (number {}) run as another user \
                 and may not be signalled (EPERM): they are left running\n",
                child.pid()
            ));
        }
        let since_start = |at: Instant| at.saturating_duration_since(start_time.instant);
        let timed_out = has_timed_out(
            self.spawner.timeout,
            since_start(exit.seen_at()),
            ended_by_run.map(since_start),
        );
        let by_deadline = exit.by_deadline();
        if check.put_back && by_deadline && !timed_out && !self.shutdown.is_stopping() {
            return self.put_back(job, start_time, &exit);
        }
        let cause = match (by_deadline, check.ended_for_stop) {
            (true, Some(signal)) => EndCause::Stopped(signal),
            (true, None) if timed_out => EndCause::TimedOut,
            // No more jobs start by now, so it cannot be put back.
            (true, None) if check.put_back => EndCause::Interrupted,
            (true, None) if self.shutdown.has_signalled_jobs() => EndCause::Interrupted,
            _ => EndCause::Itself,
        };
        let pending = PendingEnd {
            job,
            start_time,
            exit,
            cause,
            output,
        };
        if cause == EndCause::Itself && !pending.exit.success() {
            // The signal that ended the job may have been sent to this process too.
            self.handle_signals();
            if !self.shutdown.is_interrupted() && died_of_shutdown_signal(&pending.exit) {
                return self.defer_end(pending);
            }
        }
        let slot = pending.job.slot;
        let again = self.record_or_retry(pending);
        match again {
            Some(retry) => self.spawner.admission.retry(retry),
            None => self.spawner.admission.release(Some(slot)),
        }
    }

    /// Queues a job that was ended for lack of memory. The attempt has not failed, but it has a
    /// number of its own: events of its pipes may still arrive.
    fn put_back(&mut self, mut job: Job, start_time: StartTime, exit: &Exit) {
        let mut record = Record::of_exit(&job, start_time, exit, EndCause::Interrupted);
        record.reason = Some("ended and put back, because memory was short".into());
        self.observe(&record, false, None);
        drop(record);
        job.attempt += 1;
        job.details.get_or_insert_default().put_back += 1;
        self.summary.add_put_back();
        let delay = None;
        self.spawner.admission.retry(Retry { job, delay });
    }

    /// Decides about the job later, and releases its permit now. If the job ends the run whatever
    /// the decision is, the run ends at once.
    fn defer_end(&mut self, pending: PendingEnd) {
        if pending.job.counted_attempt() > self.retries {
            self.halt_if_reached(1);
        }
        let slot = pending.job.slot;
        self.pending_ends.add(pending);
        self.spawner.admission.defer(slot);
    }

    pub(super) fn finish_pending(&mut self, pending: PendingEnd) {
        let again = self.record_or_retry(pending);
        self.spawner.admission.resolve_deferred(again);
    }

    /// Records how a job ended, or returns it for another attempt.
    fn record_or_retry(&mut self, pending: PendingEnd) -> Option<Retry> {
        let PendingEnd {
            mut job,
            start_time,
            exit,
            mut cause,
            output,
        } = pending;
        // The job failed just before or after a request to end, which may have gone to the job as
        // well.
        if cause == EndCause::Itself && !exit.success() && self.shutdown.is_interrupted() {
            cause = EndCause::Interrupted;
        }
        let mut record = Record::of_exit(&job, start_time, &exit, cause);
        if self.fail_leaky {
            record.fail_if_leaky();
        }
        let failed = !record.success && !record.interrupted;
        let attempts_left = failed && job.counted_attempt() <= self.retries;
        if attempts_left && !self.shutdown.is_stopping() {
            let AttemptTail { streams, together } = output;
            self.observe(&record, false, together);
            let attempt = self
                .junit
                .is_some()
                .then(|| junit_case::failed_attempt(&record, streams.unwrap_or_default()));
            drop(record);
            if let (Some(attempt), Some(details)) = (attempt, &mut job.details) {
                details.attempts.push(attempt);
            }
            let delay = self.retry_delay;
            let delay = delay.map(|delay| delay.after(job.counted_attempt()));
            job.attempt += 1;
            self.summary.add_retry();
            return Some(Retry { job, delay });
        }
        if attempts_left && job.is_leased() {
            // The attempts that are left are for another worker of the queue: the job is not done.
            record.interrupted = true;
        }
        if self.fail_flaky {
            record.fail_flaky();
        }
        self.finish_job(&job, &record, output);
        None
    }

    /// Records a job. `output` is the end of what it wrote.
    pub(super) fn finish_job(&mut self, job: &Job, record: &Record<'_>, output: AttemptTail) {
        let AttemptTail { streams, together } = output;
        self.summary.add(record);
        self.observe(record, true, together);
        #[cfg(feature = "queue")]
        if let Some(queue) = &self.queue {
            queue.finish(job, record, streams.as_ref());
        }
        if self.junit.is_some() {
            self.add_test_case(job, record, &streams.unwrap_or_default());
        }
        if let Some(failure) = self
            .spawner
            .destination
            .finish_job(job.number, record.success)
        {
            self.stop(Stop::Soon, Some(failure));
        }
        if self.joblog.is_some() {
            // Of a job that was not started.
            self.std_streams.begin_record(job.number);
        }
        if self.records {
            let write = |to: &mut Vec<u8>| to.extend(to_json_line(record));
            self.std_streams.write_job(job.number, STDOUT, write);
        }
        if self.joblog.is_some() {
            let line = JobLog::line(job, record);
            self.std_streams
                .log_job(job.number, line, record.interrupted);
        }
        self.std_streams.end_job(job.number);
        self.halt_if_reached(0);
    }

    /// Ends the run early if the rule for that says so. `failing` jobs have failed and are not
    /// counted yet.
    pub(super) fn halt_if_reached(&mut self, failing: u64) {
        let Some(halt) = self.halt else { return };
        let failed = self.summary.failed() + failing;
        let succeeded = self.summary.finished() - self.summary.failed();
        if halt.is_reached(failed, succeeded, self.counts.expected_now()) {
            self.halt = None;
            if halt.counted == Counted::Succeeded {
                self.shutdown.set_goal_reached();
            }
            self.stop(halt.stop, None);
        }
    }
}
