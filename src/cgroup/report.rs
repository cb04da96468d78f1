//! What is left of a child in its leaf, and what the leaf has counted.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use super::files::{self, Events};
use super::tree;
use crate::Pid;

/// How many pids a report lists.
const LEFTOVER_MAX: usize = 64;
/// How much of each `cgroup.procs` is read: some ten thousand pids.
const PROCS_BYTES: usize = 64 << 10;

/// What a child has left in its cgroup, and what the cgroup has counted, at the time of the report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CgroupReport {
    leftover: Vec<Pid>,
    leftover_count: usize,
    peak_memory: Option<u64>,
    oom_kills: Option<u64>,
    incomplete: bool,
}

impl CgroupReport {
    /// Processes that run in the cgroup after the child has ended, in groups that it made inside
    /// its own as well. At most 64 are listed. Zombies do not count.
    ///
    /// The processes may end at any time, and their numbers may be reused.
    /// [`CgroupLeaf::kill`](crate::CgroupLeaf::kill) ends exactly the processes of the group.
    pub fn leftover(&self) -> &[Pid] {
        &self.leftover
    }

    /// The number of processes that run in the cgroup after the child has ended. A lower bound if
    /// there are many thousands.
    pub fn leftover_count(&self) -> usize {
        self.leftover_count
    }

    /// The most memory that the processes of the group used at a time, in bytes, with the page
    /// cache and kernel memory (`memory.peak`, Linux 5.19).
    ///
    /// `None` before that, or if [`CgroupLimits`](crate::CgroupLimits) has neither `memory` nor
    /// `peak_memory`.
    pub fn peak_memory(&self) -> Option<u64> {
        self.peak_memory
    }

    /// How many processes of the group were killed because memory ran out, in the group or on the
    /// machine (`oom_kill` of `memory.events`).
    ///
    /// `None` if [`CgroupLimits`](crate::CgroupLimits) has neither `memory` nor `peak_memory`.
    pub fn oom_kills(&self) -> Option<u64> {
        self.oom_kills
    }

    /// Whether certainly no process was left.
    pub(crate) fn is_empty(&self) -> bool {
        self.leftover_count == 0 && !self.incomplete
    }

    /// Whether all of the report could be read. If not, mostly because no descriptor was free, there
    /// may be processes that it does not count.
    pub fn is_complete(&self) -> bool {
        !self.incomplete
    }

    /// Reads the state of a leaf.
    pub(super) fn read(dir: impl AsFd, leaf: &Path, uses_memory: bool) -> Self {
        let mut report = Self::default();
        if uses_memory {
            // The leaf has served this child only, so the counters are its own.
            let mut buffer = [0; 512];
            let mut read = |file, parse: fn(&str) -> Option<u64>| match files::read(
                dir.as_fd(),
                &leaf.join(file),
                &mut buffer,
            ) {
                Ok(text) => parse(text),
                Err(error) => {
                    report.incomplete |= !files::is_gone(&error);
                    None
                }
            };
            report.peak_memory = read("memory.peak", |text| text.trim().parse().ok());
            report.oom_kills = read("memory.events", |text| files::value_of(text, "oom_kill"));
        }
        match Events::read(dir.as_fd(), leaf) {
            Ok(events) if !events.populated => {}
            Ok(_) => {
                let listed = each_process(dir, leaf, &mut |pid| report.add(pid));
                report.incomplete |= listed.is_err();
            }
            // A group that was removed held no process.
            Err(error) => report.incomplete |= !files::is_gone(&error),
        }
        report
    }

    fn add(&mut self, pid: i32) {
        self.leftover_count += 1;
        if self.leftover.len() < LEFTOVER_MAX {
            // A process of another pid namespace is shown as 0, and is only counted.
            self.leftover.extend(Pid::new(pid).ok());
        }
    }
}

/// Passes on the pid of each process of a group and of the groups below it, as far as one walk
/// visits them.
///
/// A group may be populated by processes that are not listed: those that have ended, but that the
/// kernel has not removed yet.
pub(super) fn each_process(
    dir: impl AsFd,
    group: &Path,
    each: &mut dyn FnMut(i32),
) -> io::Result<()> {
    let mut buffer = vec![0; PROCS_BYTES];
    for group in tree::groups(dir.as_fd(), group)? {
        let listed = files::read(dir.as_fd(), &group.join("cgroup.procs"), &mut buffer);
        let text = match listed {
            Ok(text) => text,
            Err(error) if files::is_gone(&error) => continue,
            // A threaded group: its processes are listed by the domain group above it.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => continue,
            Err(error) => return Err(error),
        };
        // The last line may be cut off.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        for pid in text[..whole].lines().filter_map(|line| line.parse().ok()) {
            each(pid);
        }
    }
    Ok(())
}
