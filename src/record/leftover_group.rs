//! What is left of a process group, and of a cgroup, after a deadline has ended the leader.
//!
//! Other processes of the group may still clean up, or ignore `SIGTERM`: they get the remaining
//! grace, and are then killed. By then the leader is reaped and its pid may be reused, so the group
//! is signalled through the leader's pidfd, opened while the leader lives: the kernel records there
//! which processes are in the group of that very leader.
//!
//! Where a pidfd cannot do that, the group is identified by its number. The kernel assigns the
//! number to no new process while the group has a member, so a process with that number as its pid
//! means that the group is empty.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Weak};

use crate::cgroup::{CgroupError, CgroupLeaf};
use crate::sys;
use crate::types::pid::Pid;

/// The most pidfds for groups; an eighth of the descriptor limit applies as well.
const PIDFDS_MAX: usize = 256;

pub(crate) struct LeftoverGroup {
    /// `None` if the child leads no process group.
    leader: Option<Leader>,
    /// The cgroup of the child, whose processes count as well.
    cgroup: Option<Arc<CgroupLeaf>>,
    in_grace: Arc<()>,
}

enum Leader {
    Pidfd(
        OwnedFd,
        #[expect(dead_code, reason = "counted as long as it is there")] Arc<()>,
    ),
    /// The leader is reaped by now, or about to be.
    Pid(Pid),
}

impl LeftoverGroup {
    /// What is in the cgroup of a child that has ended.
    pub(crate) fn of_cgroup(leaf: Arc<CgroupLeaf>) -> Self {
        Self {
            leader: None,
            cgroup: Some(leaf),
            in_grace: Arc::default(),
        }
    }

    /// A reference that can be upgraded as long as the group has its grace.
    pub(crate) fn grace_token(&self) -> Weak<()> {
        Arc::downgrade(&self.in_grace)
    }

    /// Whether the group has no member, not even a zombie, and its cgroup no process. Valid only
    /// after the leader was reaped.
    pub(crate) fn is_empty(&self) -> bool {
        let empty =
            matches!(self.signal(0), Err(error) if error.raw_os_error() == Some(libc::ESRCH));
        empty && !self.has_cgroup_members()
    }

    /// Whether processes are in the cgroup. If that cannot be read, there may be.
    fn has_cgroup_members(&self) -> bool {
        let populated = self.cgroup.as_ref().map(|leaf| leaf.is_populated());
        !matches!(
            populated,
            None | Some(Ok(false) | Err(CgroupError::Missing { .. }))
        )
    }

    /// Sends `SIGKILL`. `ESRCH` if there is no process.
    pub(crate) fn kill(&self) -> io::Result<()> {
        let group = self.signal(libc::SIGKILL);
        match &self.cgroup {
            Some(leaf) if self.has_cgroup_members() => leaf.kill().map_err(|error| match error {
                CgroupError::NotDelegated { .. } => io::Error::from_raw_os_error(libc::EPERM),
                CgroupError::System(error) => error.source,
                // Tried again.
                _ => io::Error::from_raw_os_error(libc::EAGAIN),
            }),
            _ => group,
        }
    }

    fn signal(&self, signal: i32) -> io::Result<()> {
        match &self.leader {
            None => Err(io::Error::from_raw_os_error(libc::ESRCH)),
            Some(Leader::Pidfd(leader, _)) => sys::kill_group_by_pidfd(leader.as_fd(), signal),
            // The number is the pid of another process by now.
            Some(Leader::Pid(leader)) if sys::is_pid_in_use(*leader) => {
                Err(io::Error::from_raw_os_error(libc::ESRCH))
            }
            Some(Leader::Pid(leader)) => sys::kill_group_by_number(*leader, signal),
        }
    }
}

/// Counts the groups that hold a pidfd.
pub(crate) struct LeftoverGroups {
    /// Each group that holds a pidfd has a clone.
    pidfds: Arc<()>,
    max: usize,
}

impl LeftoverGroups {
    pub(crate) fn new() -> Self {
        let eighth = usize::try_from(sys::descriptor_limit() / 8).unwrap_or(PIDFDS_MAX);
        Self {
            pidfds: Arc::new(()),
            max: eighth.min(PIDFDS_MAX),
        }
    }

    pub(crate) fn open_pidfds(&self) -> usize {
        Arc::strong_count(&self.pidfds) - 1
    }

    /// Identifies the group of a leader that is ours and not reaped, and takes its cgroup; `None` if
    /// it leads no group and has no cgroup.
    ///
    /// The group is identified by its number if enough pidfds are open, no descriptor is available,
    /// or pidfds do not signal groups (Linux before 6.9).
    pub(crate) fn track(
        &self,
        leader: Pid,
        cgroup: Option<Arc<CgroupLeaf>>,
    ) -> Option<LeftoverGroup> {
        let leads_group = sys::leads_group(leader);
        if !leads_group && cgroup.is_none() {
            return None;
        }
        let mut group = LeftoverGroup {
            leader: leads_group.then_some(Leader::Pid(leader)),
            cgroup,
            in_grace: Arc::default(),
        };
        if leads_group && self.open_pidfds() < self.max {
            if let Ok(pidfd) = sys::pidfd_open(leader) {
                // The leader itself is in the group, so a failure means that pidfds cannot signal
                // groups, or that the group runs as another user.
                if sys::kill_group_by_pidfd(pidfd.as_fd(), 0).is_ok() {
                    group.leader = Some(Leader::Pidfd(pidfd, Arc::clone(&self.pidfds)));
                }
            }
        }
        Some(group)
    }
}

#[cfg(all(test, not(exitring_loom)))]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_that_got_the_number_of_the_leader_is_not_killed() {
        // It is not a child of this process, and leads a group.
        let output = Command::new("sh")
            .args(["-c", "setsid sleep 1000 >/dev/null 2>&1 & echo $!"])
            .stdin(Stdio::null())
            .output()
            .expect("sh starts");
        let stranger: i32 = String::from_utf8_lossy(&output.stdout)
            .trim()
            .parse()
            .expect("a pid");
        let stranger = Pid::new(stranger).expect("a pid");
        let start = std::time::Instant::now();
        while !sys::leads_group(stranger) {
            assert!(start.elapsed().as_secs() < 30, "setsid fails");
            std::thread::yield_now();
        }
        let group = LeftoverGroup {
            leader: Some(Leader::Pid(stranger)),
            cgroup: None,
            in_grace: Arc::default(),
        };
        let is_empty = group.is_empty();
        let killed = group.kill().map_err(|error| error.raw_os_error());
        std::thread::sleep(std::time::Duration::from_millis(20));
        let lives = sys::group_exists(stranger);
        let _ = sys::kill_group_by_number(stranger, libc::SIGKILL);
        assert!(is_empty && lives);
        assert_eq!(killed, Err(Some(libc::ESRCH)));
    }
}
