//! The jobs that failed in an earlier run (`--rerun-failed`).

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::past_jobs;
use crate::failure::Failure;
use crate::run::command_spec::CommandSpec;

/// The most jobs that are held.
const JOBS_MAX: usize = 4_000_000;

/// The failed jobs of a log, by their commands, because their numbers change with the list.
pub(crate) struct FailedJobs {
    log: PathBuf,
    /// The hashes of commands, and whether they are in the list.
    commands: HashMap<u64, bool>,
    checked: bool,
}

impl FailedJobs {
    pub(crate) fn read(log: &Path) -> Result<Self, Failure> {
        // The last record of a job counts: it may have run again with --resume-failed.
        let mut failed = HashMap::new();
        past_jobs::read(log, |job| {
            match (job.interrupted, job.success) {
                // What an earlier attempt at the job came to still holds.
                (true, _) => None,
                (false, true) => failed.remove(&job.job),
                (false, false) => failed.insert(job.job, job.command),
            };
            match failed.len() <= JOBS_MAX {
                true => Ok(()),
                false => Err(Failure::usage(format!(
                    "more than 4 million jobs failed in {}",
                    log.display()
                ))
                .remedy("run the whole list again")),
            }
        })?;
        Ok(Self {
            log: log.to_owned(),
            commands: failed.into_values().map(|hash| (hash, false)).collect(),
            checked: false,
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// Whether a job of the list is one of them.
    pub(crate) fn contains(&mut self, command: &CommandSpec) -> bool {
        match self.commands.get_mut(&command.hash()) {
            Some(found) => {
                *found = true;
                true
            }
            None => false,
        }
    }

    /// Checks at the end of the list that it has the jobs. Returns a message, once, if it lacks
    /// some of them.
    pub(crate) fn check_found(&mut self) -> Result<Option<String>, Failure> {
        if std::mem::replace(&mut self.checked, true) {
            return Ok(None);
        }
        let missing = self.commands.values().filter(|found| !**found).count();
        let (log, all) = (self.log.display(), self.commands.len());
        if missing > 0 && missing == all {
            let cause = format!("the list has none of the {all} commands that failed in {log}");
            return Err(
                Failure::usage(cause).remedy("give the list that the log is about, or another log")
            );
        }
        Ok((missing > 0).then(|| {
            format!("{missing} of the {all} commands that failed in {log} are not in the list\n")
        }))
    }
}
