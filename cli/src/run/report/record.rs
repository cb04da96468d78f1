//! The record of a finished job, for standard output (`--output jsonl`) and the job log.

#[cfg(feature = "queue")]
mod stored;

use std::borrow::Cow;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use exitring::{Exit, Outcome, Usage};
use serde::Serialize;

use super::containment::Containment;
use super::json::base64_unless_text;
use crate::run::job::{Job, StartTime};
use crate::run::start_error::StartError;
use crate::run::stopped::stopped_by;
use crate::signal_name::signal_name;

#[cfg(feature = "queue")]
pub(crate) use self::stored::StoredRecord;

/// One finished job. The fields are stable; new ones may be added.
#[derive(Debug, Serialize)]
pub(crate) struct Record<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    pub(crate) job: u64,
    pub(crate) command: Cow<'a, str>,
    /// The exact bytes, where the command is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    command_base64: Option<String>,
    pub(crate) attempts: u32,
    pub(crate) outcome: OutcomeKind,
    pub(crate) exit_code: Option<i32>,
    pub(crate) signal: Option<i32>,
    /// Why the outcome is unknown, why the job was not started, or why it was ended after a stop.
    pub(crate) reason: Option<String>,
    /// It exited with code 0, by itself, in time.
    pub(crate) success: bool,
    pub(crate) timed_out: bool,
    /// The run ended the job after a request to end. The job is not done.
    pub(crate) interrupted: bool,
    /// It succeeded after an attempt that failed. With `--fail-flaky` it is no success.
    pub(crate) flaky: bool,
    /// An attempt ran for the time of `--slow-after`.
    pub(crate) slow: bool,
    /// With `--repeat`: which of the times this is, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) repeat: Option<NonZeroU32>,
    started_at: String,
    pub(crate) wall_seconds: f64,
    user_seconds: Option<f64>,
    system_seconds: Option<f64>,
    pub(crate) max_rss_bytes: Option<u64>,
    /// Not in the JSON: the slot of the attempt, and its start on the monotonic clock.
    #[serde(skip)]
    pub(crate) slot: u32,
    #[serde(skip)]
    pub(crate) started: Instant,
    /// Only of contained jobs.
    #[serde(flatten)]
    pub(crate) containment: Option<Containment>,
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "queue", derive(serde::Deserialize))]
#[serde(rename_all = "snake_case")]
pub(crate) enum OutcomeKind {
    Exited,
    Signaled,
    Unknown,
    NotStarted,
}

/// What ended a job that ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndCause {
    /// The job itself, or another process.
    Itself,
    /// Its timeout.
    TimedOut,
    /// The run, because this signal had stopped the job.
    Stopped(i32),
    /// The end of the run.
    Interrupted,
}

impl<'a> Record<'a> {
    /// The record of a job that ran.
    pub(crate) fn of_exit(
        job: &'a Job,
        start_time: StartTime,
        exit: &Exit,
        cause: EndCause,
    ) -> Self {
        let (outcome, exit_code, signal, reason) = match exit.outcome() {
            Outcome::Exited(code) => (OutcomeKind::Exited, Some(code), None, None),
            Outcome::Signaled { signal, .. } => (OutcomeKind::Signaled, None, Some(signal), None),
            Outcome::Unknown(why) => (OutcomeKind::Unknown, None, None, Some(why.to_string())),
            other => (OutcomeKind::Unknown, None, None, Some(other.to_string())),
        };
        let reason = match cause {
            EndCause::Stopped(signal) => Some(stopped_by(signal)),
            _ => reason,
        };
        let containment = Containment::of(exit, cause);
        let out_of_memory = containment.is_some_and(|contained| contained.out_of_memory);
        let seconds =
            |of: fn(&Usage) -> Duration| exit.usage().map(|usage| of(&usage).as_secs_f64());
        let success = exit.success() && cause == EndCause::Itself && !out_of_memory;
        Self {
            outcome,
            exit_code,
            signal,
            reason,
            success,
            flaky: success && job.counted_attempt() > 1,
            timed_out: cause == EndCause::TimedOut,
            interrupted: cause == EndCause::Interrupted,
            wall_seconds: micros(
                exit.seen_at()
                    .saturating_duration_since(start_time.instant)
                    .as_secs_f64(),
            ),
            user_seconds: seconds(Usage::user),
            system_seconds: seconds(Usage::system),
            max_rss_bytes: exit.usage().map(|usage| usage.max_rss_bytes()),
            containment,
            ..Self::blank(job, start_time)
        }
    }

    /// Lets the job fail if it left processes behind.
    pub(crate) fn fail_if_leaky(&mut self) {
        self.success &= self.containment.is_none_or(|contained| !contained.leaky);
        self.flaky &= self.success;
    }

    /// Counts a flaky job as failed.
    pub(crate) fn fail_flaky(&mut self) {
        if self.flaky {
            self.success = false;
            self.reason = Some(format!("only attempt {} succeeded", self.attempts));
        }
    }

    /// The record of a job that could not be started.
    pub(crate) fn of_start_error(job: &'a Job, start_time: StartTime, error: StartError) -> Self {
        Self {
            reason: Some(error.reason),
            exit_code: Some(error.exit_code),
            ..Self::blank(job, start_time)
        }
    }

    /// The record of a job that still runs and is no longer waited for.
    pub(crate) fn of_left_running(job: &'a Job, start_time: StartTime, why: String) -> Self {
        Self {
            outcome: OutcomeKind::Unknown,
            reason: Some(why),
            interrupted: true,
            wall_seconds: micros(start_time.instant.elapsed().as_secs_f64()),
            ..Self::blank(job, start_time)
        }
    }

    /// The record of a job whose workers were lost so often that it is not run again.
    #[cfg(feature = "queue")]
    pub(crate) fn of_given_up(job: &'a Job, start_time: StartTime, why: String) -> Self {
        Self {
            outcome: OutcomeKind::Unknown,
            reason: Some(why),
            ..Self::blank(job, start_time)
        }
    }

    fn blank(job: &'a Job, start_time: StartTime) -> Self {
        Self {
            kind: "job",
            job: job.number,
            command: job.command_text(),
            command_base64: base64_unless_text(&job.command_bytes()),
            attempts: job.attempt,
            outcome: OutcomeKind::NotStarted,
            exit_code: None,
            signal: None,
            reason: None,
            success: false,
            timed_out: false,
            interrupted: false,
            flaky: false,
            slow: job.slow,
            repeat: NonZeroU32::new(job.repeat),
            started_at: format!("{:.6}", start_time.time),
            wall_seconds: 0.0,
            user_seconds: None,
            system_seconds: None,
            max_rss_bytes: None,
            containment: None,
            slot: job.slot,
            started: start_time.instant,
        }
    }

    /// The time at which the job was started, as in the record.
    pub(crate) fn started_at(&self) -> &str {
        &self.started_at
    }

    /// The time from the start of the job to its end.
    pub(crate) fn wall(&self) -> Duration {
        Duration::try_from_secs_f64(self.wall_seconds).unwrap_or_default()
    }

    /// Processor time, user and system.
    pub(crate) fn cpu(&self) -> Duration {
        let seconds = self.user_seconds.unwrap_or(0.0) + self.system_seconds.unwrap_or(0.0);
        Duration::try_from_secs_f64(seconds).unwrap_or_default()
    }

    /// A short description of how the job ended.
    pub(crate) fn description(&self) -> String {
        let text = match (self.outcome, self.exit_code, self.signal) {
            (OutcomeKind::NotStarted, Some(code), _) => {
                let reason = self.reason.as_deref().unwrap_or_default();
                format!("not started (exit code {code}): {reason}")
            }
            (_, Some(code), _) => format!("exit code {code}"),
            (_, _, Some(signal)) => format!("signal {signal}{}", signal_name(signal)),
            _ => self.reason.clone().unwrap_or_default(),
        };
        let contained = self.containment.unwrap_or_default();
        match &self.reason {
            _ if self.timed_out => format!("timed out, {text}"),
            _ if contained.out_of_memory => format!("out of memory, {text}"),
            // Without --fail-leaky such a job is not described here: it has succeeded.
            _ if contained.leaky && self.exit_code == Some(0) && !self.flaky => {
                format!("left processes behind, {text}")
            }
            _ if self.outcome == OutcomeKind::NotStarted => text,
            Some(reason) if self.exit_code.is_some() || self.signal.is_some() => {
                format!("{reason}; {text}")
            }
            _ => text,
        }
    }
}

/// Rounds to microseconds, the precision of the measurement.
fn micros(seconds: f64) -> f64 {
    (seconds * 1e6).round() / 1e6
}
