//! What is told of a finished job: on standard output (`--output jsonl`) and in the job log, in the same words.

use std::borrow::Cow;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use exitring::{Exit, Outcome, Usage};
use serde::{Deserialize, Serialize};

use crate::run::job::Job;
use crate::run::schedule::event_queue::{NotStarted, When};
use crate::run::supervisor::job_checks::stopped_by;
use crate::run::token::{OUT, Whose};
use crate::signal_name::signal_name;

/// One finished job. These fields stay; others may be added.
#[derive(Debug, Serialize)]
pub(crate) struct Record<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    pub(crate) job: u64,
    pub(crate) command: Cow<'a, str>,
    /// The very bytes, where the command is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    command_base64: Option<String>,
    attempts: u32,
    pub(crate) outcome: Ended,
    exit_code: Option<i32>,
    signal: Option<i32>,
    /// Why the outcome is unknown, the job was not started, or was ended for having been stopped.
    reason: Option<String>,
    /// It exited with code 0, by itself, in time.
    pub(crate) success: bool,
    pub(crate) timed_out: bool,
    /// We ended it, because we were asked to end. It is not done.
    pub(crate) interrupted: bool,
    started_at: String,
    pub(crate) wall_seconds: f64,
    user_seconds: Option<f64>,
    system_seconds: Option<f64>,
    max_rss_bytes: Option<u64>,
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ended {
    Exited,
    Signaled,
    Unknown,
    NotStarted,
}

/// What has ended a job that ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Itself, or another process for reasons of its own.
    Itself,
    /// Its time was over.
    TimedOut,
    /// It was stopped by this signal, and therefore ended.
    Stopped(i32),
    /// The end of the run.
    Interrupted,
}

/// What is read of a record in a job log.
#[derive(Debug, Deserialize)]
pub(crate) struct Logged {
    pub(crate) job: u64,
    pub(crate) success: bool,
    pub(crate) interrupted: bool,
    pub(crate) hash: String,
}

/// What a job wrote, a line of it.
#[derive(Debug, Serialize)]
pub(crate) struct OutputLine<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    job: u64,
    /// Which of its attempts, from 1.
    attempt: u32,
    stream: &'static str,
    line: Cow<'a, str>,
    /// The very bytes, where the line is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    line_base64: Option<String>,
    /// The line goes on in the next record of this stream.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    partial: bool,
}

impl<'a> OutputLine<'a> {
    pub(crate) fn new(whose: Whose, attempt: u32, line: &'a [u8]) -> Self {
        Self {
            kind: "output",
            job: whose.job,
            attempt,
            stream: if whose.stream == OUT {
                "stdout"
            } else {
                "stderr"
            },
            line: String::from_utf8_lossy(line),
            line_base64: base64_unless_text(line),
            partial: false,
        }
    }

    /// Of a line that goes on.
    pub(crate) fn piece(whose: Whose, attempt: u32, piece: &'a [u8]) -> Self {
        Self {
            partial: true,
            ..Self::new(whose, attempt, piece)
        }
    }
}

impl<'a> Record<'a> {
    /// Of a job that ran.
    pub(crate) fn of_exit(job: &'a Job, when: When, exit: &Exit, cause: Cause) -> Self {
        let (outcome, exit_code, signal, reason) = match exit.outcome() {
            Outcome::Exited(code) => (Ended::Exited, Some(code), None, None),
            Outcome::Signaled { signal, .. } => (Ended::Signaled, None, Some(signal), None),
            Outcome::Unknown(why) => (Ended::Unknown, None, None, Some(why.to_string())),
            other => (Ended::Unknown, None, None, Some(other.to_string())),
        };
        let reason = match cause {
            Cause::Stopped(signal) => Some(stopped_by(signal)),
            _ => reason,
        };
        let seconds =
            |of: fn(&Usage) -> Duration| exit.usage().map(|usage| of(&usage).as_secs_f64());
        Self {
            outcome,
            exit_code,
            signal,
            reason,
            success: exit.success() && cause == Cause::Itself,
            timed_out: cause == Cause::TimedOut,
            interrupted: cause == Cause::Interrupted,
            wall_seconds: micros(
                exit.seen_at()
                    .saturating_duration_since(when.instant)
                    .as_secs_f64(),
            ),
            user_seconds: seconds(Usage::user),
            system_seconds: seconds(Usage::system),
            max_rss_bytes: exit.usage().map(|usage| usage.max_rss_bytes()),
            ..Self::of_nothing(job, when)
        }
    }

    /// Of a job that could not be started.
    pub(crate) fn of_nothing_started(job: &'a Job, when: When, why: NotStarted) -> Self {
        Self {
            reason: Some(why.why),
            exit_code: Some(why.code),
            ..Self::of_nothing(job, when)
        }
    }

    /// Of a job that has not ended, and is not waited for any more.
    pub(crate) fn of_left_running(job: &'a Job, when: When, why: String) -> Self {
        Self {
            outcome: Ended::Unknown,
            reason: Some(why),
            interrupted: true,
            wall_seconds: micros(when.instant.elapsed().as_secs_f64()),
            ..Self::of_nothing(job, when)
        }
    }

    fn of_nothing(job: &'a Job, when: When) -> Self {
        Self {
            kind: "job",
            job: job.number,
            command: job.order.text(),
            command_base64: base64_unless_text(&job.order.bytes()),
            attempts: job.attempt,
            outcome: Ended::NotStarted,
            exit_code: None,
            signal: None,
            reason: None,
            success: false,
            timed_out: false,
            interrupted: false,
            started_at: format!("{:.6}", when.time),
            wall_seconds: 0.0,
            user_seconds: None,
            system_seconds: None,
            max_rss_bytes: None,
        }
    }

    /// Processor time, of user and system.
    pub(crate) fn cpu(&self) -> Duration {
        let seconds = self.user_seconds.unwrap_or(0.0) + self.system_seconds.unwrap_or(0.0);
        Duration::try_from_secs_f64(seconds).unwrap_or_default()
    }

    /// How it ended, in a few words.
    pub(crate) fn how(&self) -> String {
        let how = match (self.outcome, self.exit_code, self.signal) {
            (Ended::NotStarted, Some(code), _) => {
                let reason = self.reason.as_deref().unwrap_or_default();
                format!("not started (exit code {code}): {reason}")
            }
            (_, Some(code), _) => format!("exit code {code}"),
            (_, _, Some(signal)) => format!("signal {signal}{}", signal_name(signal)),
            _ => self.reason.clone().unwrap_or_default(),
        };
        match &self.reason {
            _ if self.timed_out => format!("timed out, {how}"),
            _ if self.outcome == Ended::NotStarted => how,
            Some(reason) if self.exit_code.is_some() || self.signal.is_some() => {
                format!("{reason}; {how}")
            }
            _ => how,
        }
    }
}

/// What JSON's strings cannot say.
fn base64_unless_text(bytes: &[u8]) -> Option<String> {
    match std::str::from_utf8(bytes) {
        Ok(_) => None,
        Err(_) => Some(BASE64_STANDARD.encode(bytes)),
    }
}

/// JSON, and the end of a line.
pub(crate) fn to_line(value: &impl Serialize) -> Vec<u8> {
    // Strings and numbers: nothing that JSON cannot say.
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Nothing finer was measured.
fn micros(seconds: f64) -> f64 {
    (seconds * 1e6).round() / 1e6
}
