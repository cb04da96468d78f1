//! The destination of what jobs write.

use std::fs::File;
use std::io;

use exitring::Stdio;
use rustix::process::{Resource, getrlimit};

use super::logs::{self, Logs};
use crate::failure::Failure;
use crate::run::output_tail::OutputTail;

/// Where the standard output and error of jobs go.
pub(crate) enum Destination {
    /// Through pipes to this process.
    Piped,
    /// To the standard output and error of this process.
    Inherited,
    /// To /dev/null.
    Null,
    /// To the end of one file, which jobs inherit.
    Appended(File, Stdio),
    /// To two files per job.
    Logged(Logs),
}

impl Destination {
    pub(crate) fn appended(file: File) -> io::Result<Self> {
        let of_jobs = Stdio::from(file.try_clone()?);
        Ok(Self::Appended(file, of_jobs))
    }

    /// The end of what a job has written to files of its own, up to `max` bytes of each.
    pub(crate) fn output_tail(&self, job: u64, max: usize) -> Option<OutputTail> {
        match self {
            Self::Logged(logs) => Some(logs.output_tail(job, max)),
            _ => None,
        }
    }

    /// Removes what an earlier run, or an earlier attempt, has left of a job that was not started.
    pub(crate) fn remove_output(&self, job: u64) {
        if let Self::Logged(logs) = self {
            logs.remove(job);
        }
    }

    /// Completes a job that has ended or was not started. A job that writes to a file itself fails
    /// on a full disk without an error here, so the disk is checked.
    pub(crate) fn finish_job(&self, job: u64, success: bool) -> Option<Failure> {
        match self {
            Self::Appended(file, _) if !success => appended_full(file),
            Self::Logged(logs) => {
                logs.finish_job(job);
                logs.full_error(job)
            }
            _ => None,
        }
    }
}

/// The reason why a file that jobs append to cannot grow.
fn appended_full(file: &File) -> Option<Failure> {
    let metadata = file.metadata().ok().filter(|metadata| metadata.is_file())?;
    let limit = getrlimit(Resource::Fsize).current;
    let error = match limit.is_some_and(|limit| metadata.len() >= limit) {
        true => io::ErrorKind::FileTooLarge,
        false if logs::is_full(rustix::fs::fstatvfs(file)) => io::ErrorKind::StorageFull,
        false => return None,
    };
    Some(Failure::writing("the file of --append", &error.into()))
}
