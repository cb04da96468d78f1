//! Which limit it was that `fork` met: it says `EAGAIN` for all of them.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};

/// A limit on how many processes there may be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProcessLimit {
    /// The cgroup's.
    Cgroup {
        /// `pids.max`.
        max: u64,
        /// Where it is.
        file: PathBuf,
    },
    /// One of the user's or the machine's.
    UserOrMachine {
        /// `RLIMIT_NPROC` (`ulimit -u`), which root is not held to.
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
    /// Looks for the limit that is reached.
    pub(crate) fn find() -> Self {
        full_cgroup().unwrap_or_else(|| Self::UserOrMachine {
            nproc: getrlimit(Resource::Nproc).current,
            pid_max: read_number(Path::new("/proc/sys/kernel/pid_max")),
            threads_max: read_number(Path::new("/proc/sys/kernel/threads-max")),
        })
    }
}

/// Our cgroup, or the first above it that is full, in either version of cgroups.
fn full_cgroup() -> Option<ProcessLimit> {
    let cgroups = fs::read_to_string("/proc/self/cgroup").ok()?;
    cgroups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let mount = match fields.next()? {
            "" => "/sys/fs/cgroup",
            "pids" => "/sys/fs/cgroup/pids",
            _ => return None,
        };
        let group = Path::new(mount).join(fields.next()?.trim_start_matches('/'));
        let mut groups = group.ancestors().take_while(|dir| dir.starts_with(mount));
        groups.find_map(|group| {
            let file = group.join("pids.max");
            // "max" is no number, and no limit.
            let max = read_number(&file)?;
            let used = read_number(&group.join("pids.current"))?;
            (used >= max).then_some(ProcessLimit::Cgroup { max, file })
        })
    })
}

fn read_number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn number(number: Option<u64>) -> String {
    number.map_or_else(|| "unlimited".into(), |number| number.to_string())
}
