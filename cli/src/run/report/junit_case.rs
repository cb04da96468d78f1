//! The test case of a job, for the JUnit report.

use std::fmt::Write as _;

use quick_junit::{FlakyOrRerun, NonSuccessKind, TestCase, TestCaseStatus, TestRerun};

use super::junit_text::{name_of, output_of};
use super::record::{OutcomeKind, Record};
use crate::run::attempt::FailedAttempt;
use crate::run::job::Job;
use crate::run::output_tail::OutputTail;

/// The test case of a job that has ended, whose last attempt wrote `output`. Earlier attempts are
/// flaky failures if the job succeeded in the end, and reruns otherwise.
pub(crate) fn of_job(suite: &str, job: &Job, record: &Record<'_>, output: &OutputTail) -> TestCase {
    let status = match record.success {
        true => TestCaseStatus::success(),
        false => {
            let mut status = TestCaseStatus::non_success(kind_of(record));
            status.set_message(name_of(record.description().as_bytes()));
            status.set_type(failure_type(record));
            if record.flaky {
                status.set_rerun_kind(FlakyOrRerun::Flaky);
            }
            status
        }
    };
    let mut name = name_of(&job.name());
    if job.repeat > 0 {
        let _ = write!(name, " (repeat {})", job.repeat);
    }
    let mut case = TestCase::new(name, status);
    case.set_classname(suite);
    case.set_time(record.wall());
    case.timestamp = record.started_at().parse().ok();
    let attempts = job
        .details
        .iter()
        .flat_map(|details| details.attempts.iter());
    case.status.add_reruns(attempts.map(rerun));
    let [out, err] = output;
    case.system_out = output_of(out).map(Into::into);
    case.system_err = output_of(err).map(Into::into);
    case
}

/// A job that could not be started, or that the run ended, did not fail by itself.
fn kind_of(record: &Record<'_>) -> NonSuccessKind {
    match record.outcome {
        OutcomeKind::NotStarted | OutcomeKind::Unknown => NonSuccessKind::Error,
        OutcomeKind::Exited | OutcomeKind::Signaled if record.interrupted => NonSuccessKind::Error,
        OutcomeKind::Exited | OutcomeKind::Signaled => NonSuccessKind::Failure,
    }
}

/// The kind of a failure, for programs.
fn failure_type(record: &Record<'_>) -> &'static str {
    match record.outcome {
        _ if record.timed_out => "timeout",
        _ if record.interrupted => "interrupted",
        _ if record.flaky => "flaky",
        OutcomeKind::NotStarted => "not started",
        OutcomeKind::Exited => "exit code",
        OutcomeKind::Signaled => "signal",
        OutcomeKind::Unknown => "unknown",
    }
}

/// An attempt that failed, and that another one follows.
pub(crate) fn failed_attempt(record: &Record<'_>, output: OutputTail) -> FailedAttempt {
    FailedAttempt {
        description: record.description(),
        kind: failure_type(record),
        started_at: record.started_at().into(),
        time: record.wall(),
        output,
    }
}

fn rerun(attempt: &FailedAttempt) -> TestRerun {
    let mut rerun = TestRerun::new(NonSuccessKind::Failure);
    rerun.set_message(name_of(attempt.description.as_bytes()));
    rerun.set_type(attempt.kind);
    rerun.set_time(attempt.time);
    rerun.timestamp = attempt.started_at.parse().ok();
    let [out, err] = &attempt.output;
    rerun.system_out = output_of(out).map(Into::into);
    rerun.system_err = output_of(err).map(Into::into);
    rerun
}
