//! What is left of a process group when a deadline has ended its leader.
//!
//! Others in the group may be cleaning up still, or be deaf to `SIGTERM`: they have the rest of the grace, and are
//! then killed. By then the leader is reaped and its number may be another's, so the group is known by the leader's
//! pidfd: the kernel keeps, behind it, who is in the group of that very leader.

use std::os::fd::{AsFd, OwnedFd};

use crate::Pid;
use crate::sys;

pub(crate) struct Remnant(OwnedFd);

impl Remnant {
    /// Takes hold of the group of a leader that has ended and is not reaped. `None` if it led none, or nothing can hold
    /// on to it (Linux before 6.9, no descriptor): then the group is killed at once, while its number is its own.
    pub(crate) fn of(leader: Pid) -> Option<Self> {
        if !sys::leads_group(leader) {
            return None;
        }
        // The leader itself is in the group until it is reaped, so what fails is the asking.
        let held = sys::pidfd_open(leader)
            .and_then(|pidfd| sys::kill_group_of(pidfd.as_fd(), 0).map(|()| Self(pidfd)));
        if held.is_err() {
            let _ = sys::kill_group(leader, libc::SIGKILL);
        }
        held.ok()
    }

    /// Whether anybody is in it, zombies included.
    pub(crate) fn is_empty(&self) -> bool {
        sys::kill_group_of(self.0.as_fd(), 0)
            .is_err_and(|error| error.raw_os_error() == Some(libc::ESRCH))
    }

    pub(crate) fn kill(self) {
        // Whoever may not be signalled runs as another user by now.
        let _ = sys::kill_group_of(self.0.as_fd(), libc::SIGKILL);
    }
}
