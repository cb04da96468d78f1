//! What is left of a process group when a deadline has ended its leader.
//!
//! Others in the group may be cleaning up still, or be deaf to `SIGTERM`: they have the rest of the grace, and are
//! then killed. By then the leader is reaped and its number may be another's, so the group is known by the leader's
//! pidfd, opened while the leader lives: the kernel keeps, behind it, who is in the group of that very leader.
//!
//! Where no pidfd can do that, the group is known by its number. The kernel gives the number to no other process while
//! anybody is in the group, so a process that has it as its own means that the group is empty.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Weak};

use crate::Pid;
use crate::sys;

/// At most so many pidfds, and an eighth of what may be open.
const HELD_MAX: usize = 256;

pub(crate) struct LeftoverGroup {
    leader: Leader,
    alive: Arc<()>,
}

enum Leader {
    Pidfd(
        OwnedFd,
        #[expect(dead_code, reason = "counted as long as it is there")] Arc<()>,
    ),
    /// Reaped by now, or about to be.
    Number(Pid),
}

impl LeftoverGroup {
    /// As long as this can be upgraded the group has its grace.
    pub(crate) fn watch(&self) -> Weak<()> {
        Arc::downgrade(&self.alive)
    }

    /// Whether anybody is in it, zombies included. To be asked after the leader was reaped.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self.signal(0), Err(error) if error.raw_os_error() == Some(libc::ESRCH))
    }

    /// Sends `SIGKILL`.
    pub(crate) fn kill(&self) -> io::Result<()> {
        self.signal(libc::SIGKILL)
    }

    fn signal(&self, signal: i32) -> io::Result<()> {
        match &self.leader {
            Leader::Pidfd(leader, _) => sys::kill_group_by_pidfd(leader.as_fd(), signal),
            Leader::Number(leader) => match sys::kill(*leader, 0) {
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {
                    sys::kill_group_by_number(*leader, signal)
                }
                // The number is another process's by now.
                _ => Err(io::Error::from_raw_os_error(libc::ESRCH)),
            },
        }
    }
}

/// Counts them, each a descriptor.
pub(crate) struct LeftoverGroups {
    /// Shared by each.
    places: Arc<()>,
    max: usize,
}

impl LeftoverGroups {
    pub(crate) fn new() -> Self {
        let eighth = usize::try_from(sys::descriptor_limit() / 8).unwrap_or(HELD_MAX);
        Self {
            places: Arc::new(()),
            max: eighth.min(HELD_MAX),
        }
    }

    pub(crate) fn held(&self) -> usize {
        Arc::strong_count(&self.places) - 1
    }

    /// Takes hold of the group of a leader that is ours and not reaped. `None` if it leads none. By its number if enough are
    /// held, no descriptor is to be had, or pidfds do not signal groups (Linux before 6.9).
    pub(crate) fn hold(&self, leader: Pid) -> Option<LeftoverGroup> {
        if !sys::leads_group(leader) {
            return None;
        }
        let mut group = LeftoverGroup {
            leader: Leader::Number(leader),
            alive: Arc::default(),
        };
        if self.held() < self.max
            && let Ok(pidfd) = sys::pidfd_open(leader)
            // The leader itself is in it, so what fails is the asking, or it runs as another user.
            && sys::kill_group_by_pidfd(pidfd.as_fd(), 0).is_ok()
        {
            group.leader = Leader::Pidfd(pidfd, Arc::clone(&self.places));
        }
        Some(group)
    }
}
