//! The test case of a job, for the JUnit report.

use std::fmt::Write as _;

use quick_junit::{FlakyOrRerun, NonSuccessKind, TestCase, TestCaseStatus, TestRerun, XmlString};

use super::junit_text::{name_of, output_of};
use super::record::{OutcomeKind, Record};
use crate::run::attempt::FailedAttempt;
use crate::run::job::Job;
use crate::run::output_tail::OutputTail;

/// The test case of a job that has ended, whose last attempt wrote `output`. If that succeeded,
/// earlier attempts are flaky failures. Otherwise the case has the failure of the first attempt, and
/// the others are reruns of it, as in Maven and nextest.
pub(crate) fn of_job(suite: &str, job: &Job, record: &Record<'_>, output: &OutputTail) -> TestCase {
    let attempts = job.details.as_ref();
    let attempts = attempts.map(|details| details.attempts.as_slice());
    let attempts = attempts.unwrap_or_default();
    let mut case = match attempts {
        [first, others @ ..] if !record.success && !record.flaky => {
            let status = failed(NonSuccessKind::Failure, first.kind, &first.description);
            let mut case = TestCase::new("", status);
            case.status.add_reruns(others.iter().map(rerun));
            case.status.add_rerun(last_rerun(record, output));
            case.set_time(first.time);
            case.timestamp = first.started_at.parse().ok();
            [case.system_out, case.system_err] = texts(&first.output);
            case
        }
        _ => of_last(attempts, record, output),
    };
    let mut name = name_of(&job.name());
    if job.repeat > 0 {
        let _ = write!(name, " (repeat {})", job.repeat);
    }
    case.name = name.into();
    case.set_classname(suite);
    case
}

/// The test case of a job of which only the record is known.
#[cfg(feature = "queue")]
pub(crate) fn of_stored(
    suite: &str,
    name: &[u8],
    record: &Record<'_>,
    output: &OutputTail,
) -> TestCase {
    let mut case = of_last(&[], record, output);
    case.name = name_of(name).into();
    case.set_classname(suite);
    case
}

/// The test case of the last attempt, without a name.
fn of_last(attempts: &[FailedAttempt], record: &Record<'_>, output: &OutputTail) -> TestCase {
    let mut status = match record.success {
        true => TestCaseStatus::success(),
        false => failed(kind_of(record), failure_type(record), &record.description()),
    };
    status.set_rerun_kind(FlakyOrRerun::Flaky);
    status.add_reruns(attempts.iter().map(rerun));
    let mut case = TestCase::new("", status);
    case.set_time(record.wall());
    case.timestamp = record.started_at().parse().ok();
    [case.system_out, case.system_err] = texts(output);
    case
}

fn failed(kind: NonSuccessKind, ty: &str, message: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    status.set_type(ty);
    status.set_message(name_of(message.as_bytes()));
    status
}

fn texts(output: &OutputTail) -> [Option<XmlString>; 2] {
    output
        .each_ref()
        .map(|tail| output_of(tail).map(Into::into))
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
    let contained = record.containment.unwrap_or_default();
    match record.outcome {
        _ if record.timed_out => "timeout",
        _ if record.interrupted => "interrupted",
        _ if record.flaky => "flaky",
        _ if contained.out_of_memory => "out of memory",
        // As in the description.
        _ if contained.leaky && record.exit_code == Some(0) => "leaky",
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
    [rerun.system_out, rerun.system_err] = texts(&attempt.output);
    rerun
}

fn last_rerun(record: &Record<'_>, output: &OutputTail) -> TestRerun {
    let mut rerun = TestRerun::new(kind_of(record));
    rerun.set_message(name_of(record.description().as_bytes()));
    rerun.set_type(failure_type(record));
    rerun.set_time(record.wall());
    rerun.timestamp = record.started_at().parse().ok();
    [rerun.system_out, rerun.system_err] = texts(output);
    rerun
}
