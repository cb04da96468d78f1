//! How long jobs took in an earlier run (`--durations`).

use std::collections::HashMap;
use std::path::Path;

use super::past_jobs;
use crate::failure::Failure;
use crate::run::command_spec::CommandSpec;

/// The most commands that are held.
const COMMANDS_MAX: usize = 4_000_000;

/// Durations in microseconds, by the hash of the command. They are integers, so that sums are the
/// same on every machine.
pub(crate) struct Durations {
    micros: HashMap<u64, u64>,
    median: u64,
}

impl Durations {
    /// Reads a job log. The last record of a command counts.
    pub(crate) fn read(log: &Path) -> Result<Self, Failure> {
        let mut micros = HashMap::new();
        past_jobs::read(log, |job| {
            if job.has_run() {
                // The conversion saturates.
                micros.insert(job.command, (job.wall_seconds * 1e6) as u64);
            }
            match micros.len() <= COMMANDS_MAX {
                true => Ok(()),
                false => Err(Failure::usage(format!(
                    "the job log {} has more than 4 million commands",
                    log.display()
                ))
                .remedy("leave out --durations")),
            }
        })?;
        let mut all: Vec<u64> = micros.values().copied().collect();
        all.sort_unstable();
        // The lower one of two. Without any record all jobs are equal.
        let median = all.get(all.len().saturating_sub(1) / 2);
        Ok(Self {
            median: median.copied().unwrap_or_default(),
            micros,
        })
    }

    /// The duration of a job. A job that is not in the log gets the median.
    pub(crate) fn of(&self, command: &CommandSpec) -> u64 {
        let micros = self.micros.get(&command.hash());
        micros.copied().unwrap_or(self.median)
    }
}
