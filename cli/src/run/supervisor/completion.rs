//! What the conductor does when a job has ended: why it did, whether it is tried again, and its record.

use crate::run::job::Job;
use crate::run::report::record::{Cause, Record, to_line};
use crate::run::supervisor::pending_ends::{Held, died_of_signal};
use crate::run::supervisor::shutdown::Stop;
use crate::run::supervisor::{Conductor, Running};

impl Conductor {
    /// A job's process has ended, and its output too.
    pub(in crate::run) fn end(&mut self, number: u64) {
        // Its group had its grace, and somebody is left.
        let denied = self
            .running
            .get(&number)
            .is_some_and(|running| running.was_in_grace && running.is_denied());
        let Some(Running {
            job,
            when,
            child,
            exit,
            seen,
            ..
        }) = self.running.remove(&number)
        else {
            return;
        };
        if self.pipes.leave(number, job.attempt, &mut self.outlet) {
            self.say_closed();
        }
        let Some(exit) = exit else { return };
        if denied {
            self.say(&format!(
                "job {number} has ended, and left processes in its group (number {}) that run as another user and may not be \
                 signalled (EPERM): they run on\n",
                child.pid()
            ));
        }
        let timeout = self.starter.timeout;
        let late = |timeout| exit.seen_at().saturating_duration_since(when.instant) >= timeout;
        let cause = match (exit.by_deadline(), seen.ended_for) {
            (true, Some(signal)) => Cause::Stopped(signal),
            (true, None) if timeout.is_some_and(late) => Cause::TimedOut,
            (true, None) if self.ending.has_told() => Cause::Interrupted,
            _ => Cause::Itself,
        };
        let held = Held {
            job,
            when,
            exit,
            cause,
        };
        if cause == Cause::Itself && !held.exit.success() {
            // What has ended it may have reached us, too.
            self.take_signals();
            if !self.ending.is_interrupted() && died_of_signal(&held.exit) {
                return self.hold(held);
            }
        }
        let again = self.conclude(held);
        match again {
            Some(job) => self.starter.gate.again(job),
            None => self.starter.gate.leave(1),
        }
    }

    /// It is judged later, and leaves its place now. What will end the run whatever the judgement does so at once.
    fn hold(&mut self, held: Held) {
        if held.job.attempt > self.retries
            && let Some(stop) = self.fail_fast
        {
            self.stop(stop, None);
        }
        self.held.add(held);
        self.starter.gate.hold();
    }

    pub(in crate::run) fn judge(&mut self, held: Held) {
        let again = self.conclude(held);
        self.starter.gate.judged(again);
    }

    /// Records how a job has ended, or gives it back for another attempt.
    fn conclude(&mut self, held: Held) -> Option<Job> {
        let Held {
            mut job,
            when,
            exit,
            mut cause,
        } = held;
        // It failed just before, or after, we were asked to end: what asked us may have asked it.
        if cause == Cause::Itself && !exit.success() && self.ending.is_interrupted() {
            cause = Cause::Interrupted;
        }
        let record = Record::of_exit(&job, when, &exit, cause);
        let failed = !record.success && !record.interrupted;
        if failed && job.attempt <= self.retries && !self.ending.is_stopping() {
            drop(record);
            job.attempt += 1;
            self.summary.attempt_again();
            return Some(job);
        }
        self.finish(&job, &record);
        None
    }

    pub(in crate::run) fn finish(&mut self, job: &Job, record: &Record<'_>) {
        self.summary.add(record);
        if let Some(joblog) = &mut self.joblog
            && let Err(failure) = joblog.write(job, record)
        {
            self.joblog = None;
            self.stop(Stop::Soon, Some(failure));
        }
        if let Some(failure) = self.starter.streams.end(job.number, record.success) {
            self.stop(Stop::Soon, Some(failure));
        }
        if self.records {
            self.outlet.out().extend(to_line(record));
        }
        if !record.success
            && !record.interrupted
            && let Some(stop) = self.fail_fast
        {
            self.stop(stop, None);
        }
    }
}
