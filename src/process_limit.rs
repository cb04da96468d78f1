//! The limit behind an `EAGAIN` of `fork`, which reports all limits on processes by this one error.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::limits::{self, Limit, Source};

/// The limit because of which a process could not be started.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProcessLimit {
    /// The limit of the cgroup, or of one above it.
    Cgroup {
        /// `pids.max`.
        max: u64,
        /// The path of `pids.max`.
        file: PathBuf,
    },
    /// A limit of the user or of the machine. The kernel does not say which.
    UserOrMachine {
        /// `RLIMIT_NPROC` (`ulimit -u`), from which root is exempt.
        nproc: Option<u64>,
        /// The sysctl `kernel.pid_max`.
        pid_max: Option<u64>,
        /// The sysctl `kernel.threads-max`.
        threads_max: Option<u64>,
    },
}

impl fmt::Display for ProcessLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cgroup { max, file } => write!(
                f,
                "the cgroup's limit of {max} processes is reached ({}); raise it (systemd: TasksMax)",
                file.display()
            ),
            Self::UserOrMachine {
                nproc,
                pid_max,
                threads_max,
            } => write!(
                f,
                "no process slot is free: RLIMIT_NPROC is {}, kernel.pid_max {}, \
                 kernel.threads-max {}",
                number(*nproc),
                number(*pid_max),
                number(*threads_max)
            ),
        }
    }
}

impl std::error::Error for ProcessLimit {}

impl ProcessLimit {
    /// Finds the limit that is reached: a full cgroup if there is one, the one of this process
    /// first.
    pub(crate) fn find() -> Self {
        Self::find_in(limits::cgroups())
    }

    /// Like [`find`](Self::find), for a child that starts in this cgroup.
    pub(crate) fn find_for(cgroup: &Path) -> Self {
        Self::find_in(limits::cgroups_from(cgroup))
    }

    fn find_in(cgroups: Vec<Limit>) -> Self {
        let full = |limit: &Limit| limit.used >= limit.max;
        match cgroups.into_iter().find(full) {
            Some(Limit {
                source: Source::Cgroup { file },
                max,
                ..
            }) => Self::Cgroup { max, file },
            _ => Self::UserOrMachine {
                nproc: limits::nproc(),
                pid_max: limits::pid_max(),
                threads_max: limits::threads_max(),
            },
        }
    }
}

fn number(number: Option<u64>) -> String {
    number.map_or_else(|| "unlimited".into(), |number| number.to_string())
}
