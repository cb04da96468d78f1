//! The records of a job log of another run, which is only read (`--durations`, `--rerun-failed`).

use std::path::Path;

use serde::Deserialize;

use super::joblog::JobLog;
use super::resume::{Lines, not_a_record};
use crate::failure::Failure;

/// A record of the log.
#[derive(Debug, Deserialize)]
pub(crate) struct PastJob {
    pub(crate) job: u64,
    pub(crate) success: bool,
    pub(crate) interrupted: bool,
    pub(crate) outcome: String,
    pub(crate) wall_seconds: f64,
    hash: String,
    /// The hash of the command, as a number.
    #[serde(skip)]
    pub(crate) command: u64,
}

impl PastJob {
    /// Whether it ran to its end.
    pub(crate) fn has_run(&self) -> bool {
        !self.interrupted && self.outcome != "not_started"
    }
}

/// Reads a log, and passes on each record. An incomplete last line, which a run that was killed
/// leaves, is left out. Any other line that is not a record is an error.
pub(crate) fn read(
    path: &Path,
    mut each: impl FnMut(PastJob) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::usage(format!(
            "cannot read the job log {}: {error}",
            path.display()
        ))
    };
    let length = JobLog::records_length(path)?;
    let mut lines = Lines::open(path, length).map_err(unreadable)?;
    let mut number = 0;
    while let Some(line) = lines.next().map_err(unreadable)? {
        number += 1;
        let job = serde_json::from_slice::<PastJob>(line).ok();
        let job = job.and_then(|job| {
            let command = u64::from_str_radix(&job.hash, 16).ok()?;
            // JSON has no NaN and no infinity.
            (job.wall_seconds >= 0.0).then_some(PastJob { command, ..job })
        });
        each(job.ok_or_else(|| not_a_record(path, number))?)?;
    }
    Ok(())
}
