//! A record that was stored as JSON.

use std::num::NonZeroU32;
use std::time::Instant;

use serde::Deserialize;

use super::{Containment, OutcomeKind, Record};

/// A record that a worker of a queue has published.
#[derive(Debug, Deserialize)]
pub(crate) struct StoredRecord {
    pub(crate) job: u64,
    command: String,
    #[serde(default)]
    command_base64: Option<String>,
    attempts: u32,
    outcome: OutcomeKind,
    exit_code: Option<i32>,
    signal: Option<i32>,
    reason: Option<String>,
    pub(crate) success: bool,
    timed_out: bool,
    pub(crate) interrupted: bool,
    flaky: bool,
    slow: bool,
    #[serde(default)]
    repeat: Option<NonZeroU32>,
    started_at: String,
    wall_seconds: f64,
    user_seconds: Option<f64>,
    system_seconds: Option<f64>,
    max_rss_bytes: Option<u64>,
    #[serde(flatten)]
    containment: Option<Containment>,
}

impl StoredRecord {
    pub(crate) fn as_record(&self) -> Record<'_> {
        Record {
            kind: "job",
            job: self.job,
            command: self.command.as_str().into(),
            command_base64: self.command_base64.clone(),
            attempts: self.attempts,
            outcome: self.outcome,
            exit_code: self.exit_code,
            signal: self.signal,
            reason: self.reason.clone(),
            success: self.success,
            timed_out: self.timed_out,
            interrupted: self.interrupted,
            flaky: self.flaky,
            slow: self.slow,
            repeat: self.repeat,
            started_at: self.started_at.clone(),
            // JSON has no NaN and no infinity.
            wall_seconds: self.wall_seconds,
            user_seconds: self.user_seconds,
            system_seconds: self.system_seconds,
            max_rss_bytes: self.max_rss_bytes,
            slot: 0,
            started: Instant::now(),
            containment: self.containment,
        }
    }
}
