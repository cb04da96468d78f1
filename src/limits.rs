//! Limits of the kernel on processes and descriptors, and how much of each is in use.
//!
//! `fork` and `clone` report every limit on processes as `EAGAIN`. This module reads the limits
//! that apply to the calling process, so that a program can name the one that is in the way, or
//! check it before it starts thousands of children.
//!
//! ```
//! use exitring::limits;
//!
//! if let Some(limit) = limits::processes().iter().min_by_key(|limit| limit.free()) {
//!     println!("{} more processes can start ({})", limit.free(), limit.source);
//! }
//! let descriptors = limits::descriptors();
//! println!("{} descriptors are open, of {:?}", descriptors.open, descriptors.soft);
//! ```
//!
//! A limit that cannot be read, because `/proc` or `/sys/fs/cgroup` is not mounted, is left out.
//! The numbers are a snapshot: other processes start and end meanwhile.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, geteuid, getrlimit, getuid};

/// Pids below this number are given out once only (`RESERVED_PIDS` in the kernel).
const RESERVED_PIDS: u64 = 300;

/// A limit on the number of processes and threads.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limit {
    /// Which limit it is.
    pub source: Source,
    /// The largest number of processes and threads that it allows.
    pub max: u64,
    /// How many of them are in use, as far as that can be read. For [`Source::PidMax`] this includes
    /// the 300 pids that the kernel reserves.
    pub used: u64,
}

impl Limit {
    /// How many more processes the limit allows.
    pub fn free(&self) -> u64 {
        self.max.saturating_sub(self.used)
    }
}

/// Where a limit on processes is set.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// The sysctl `kernel.pid_max`.
    PidMax,
    /// The sysctl `kernel.threads-max`.
    ThreadsMax,
    /// `RLIMIT_NPROC` (`ulimit -u`), which counts the threads of the user. The number in use is
    /// that of the processes that the user owns in `/proc`.
    ///
    /// It is left out for the effective user root, whom the kernel exempts in the initial user
    /// namespace (`setrlimit(2)`). In another one it applies to root as well.
    UserProcesses,
    /// `pids.max` of the cgroup of this process, or of a cgroup above it.
    Cgroup {
        /// The path of `pids.max`.
        file: PathBuf,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PidMax => f.write_str("kernel.pid_max"),
            Self::ThreadsMax => f.write_str("kernel.threads-max"),
            Self::UserProcesses => f.write_str("RLIMIT_NPROC"),
            Self::Cgroup { file } => file.display().fmt(f),
        }
    }
}

/// The limits on descriptors of this process, and how many it has open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Descriptors {
    /// The soft limit of `RLIMIT_NOFILE` (`ulimit -n`). `None` if there is none.
    pub soft: Option<u64>,
    /// The hard limit, up to which the process may raise the soft one. `None` if there is none.
    pub hard: Option<u64>,
    /// How many descriptors are open. 0 if that cannot be read.
    pub open: u64,
}

/// All limits that bound how many processes this process can have.
///
/// Counting the threads of a user reads all of `/proc`, which takes milliseconds on a busy machine.
pub fn processes() -> Vec<Limit> {
    let tasks = tasks_on_machine().unwrap_or(0);
    let limit = |source, max, used| Limit { source, max, used };
    let pid_max = pid_max().map(|max| limit(Source::PidMax, max, tasks + RESERVED_PIDS));
    let threads_max = threads_max().map(|max| limit(Source::ThreadsMax, max, tasks));
    let nproc = nproc()
        .filter(|_| !geteuid().is_root())
        .map(|max| limit(Source::UserProcesses, max, tasks_of_user()));
    let of_machine = [pid_max, threads_max, nproc].into_iter().flatten();
    of_machine.chain(cgroups()).collect()
}

/// The limits on descriptors, and how many this process has open.
pub fn descriptors() -> Descriptors {
    let limit = getrlimit(Resource::Nofile);
    // Reading the directory needs a descriptor itself.
    let open = fs::read_dir("/proc/self/fd").map_or(0, |dir| dir.count().saturating_sub(1));
    Descriptors {
        soft: limit.current,
        hard: limit.maximum,
        open: open as u64,
    }
}

pub(crate) fn pid_max() -> Option<u64> {
    read_number(Path::new("/proc/sys/kernel/pid_max"))
}

pub(crate) fn threads_max() -> Option<u64> {
    read_number(Path::new("/proc/sys/kernel/threads-max"))
}

/// The soft limit of `RLIMIT_NPROC`, whether it applies to this user or not.
pub(crate) fn nproc() -> Option<u64> {
    getrlimit(Resource::Nproc).current
}

/// The limits of the cgroup of this process, then of those above it, in either version of cgroups.
pub(crate) fn cgroups() -> Vec<Limit> {
    let cgroups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    cgroups.lines().flat_map(cgroups_of_line).collect()
}

/// The limits of a cgroup, then of those above it.
pub(crate) fn cgroups_from(group: &Path) -> Vec<Limit> {
    group.ancestors().filter_map(cgroup).collect()
}

/// The limits that a line `ID:CONTROLLERS:PATH` of `/proc/self/cgroup` leads to.
fn cgroups_of_line(line: &str) -> Vec<Limit> {
    let mut fields = line.splitn(3, ':').skip(1);
    let mount = match fields.next() {
        Some("") => "/sys/fs/cgroup",
        Some("pids") => "/sys/fs/cgroup/pids",
        _ => return Vec::new(),
    };
    let path = fields.next().unwrap_or_default();
    let group = Path::new(mount).join(path.trim_start_matches('/'));
    let groups = group.ancestors().take_while(|dir| dir.starts_with(mount));
    groups.filter_map(cgroup).collect()
}

fn cgroup(group: &Path) -> Option<Limit> {
    let file = group.join("pids.max");
    // "max", which is no number, stands for no limit.
    let max = read_number(&file)?;
    let used = read_number(&group.join("pids.current")).unwrap_or(0);
    Some(Limit {
        source: Source::Cgroup { file },
        max,
        used,
    })
}

/// The number of processes and threads, from `/proc/loadavg` (`proc(5)`).
fn tasks_on_machine() -> Option<u64> {
    let loadavg = fs::read_to_string("/proc/loadavg").ok()?;
    let (_, total) = loadavg.split_whitespace().nth(3)?.split_once('/')?;
    total.parse().ok()
}

fn tasks_of_user() -> u64 {
    let uid = getuid().as_raw();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let own = processes.filter(|process| process.metadata().is_ok_and(|meta| meta.uid() == uid));
    own.map(|process| fs::read_dir(process.path().join("task")).map_or(0, Iterator::count) as u64)
        .sum()
}

fn read_number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_limits_and_this_process_counts_against_them() {
        let limits = processes();
        for source in [Source::PidMax, Source::ThreadsMax] {
            let limit = limits.iter().find(|limit| limit.source == source);
            let limit = limit.unwrap_or_else(|| panic!("{source} is readable"));
            assert!(limit.used > 0 && limit.free() < limit.max, "{limit:?}");
        }
    }

    #[test]
    fn open_files_count_as_descriptors() {
        let files: Vec<_> = (0..5).map_while(|_| fs::File::open("/").ok()).collect();
        let descriptors = descriptors();
        assert!(descriptors.open as usize >= files.len(), "{descriptors:?}");
        assert!(descriptors.soft <= descriptors.hard || descriptors.hard.is_none());
    }

    #[test]
    fn a_limit_that_is_exceeded_leaves_nothing_free() {
        let limit = Limit {
            source: Source::UserProcesses,
            max: 3,
            used: 5,
        };
        assert_eq!(limit.free(), 0);
    }
}
