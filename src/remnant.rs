//! What is left of a process group when a deadline has ended its leader.
//!
//! Others in the group may be cleaning up still, or be deaf to `SIGTERM`: they have the rest of the grace, and are
//! then killed. By then the leader is reaped and its number may be another's, so the group is known by the leader's
//! pidfd, opened while the leader lives: the kernel keeps, behind it, who is in the group of that very leader.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use crate::Pid;
use crate::sys;

/// At most so many, and an eighth of what may be open.
const HELD_MAX: usize = 256;

pub(crate) struct Remnant {
    leader: OwnedFd,
    _place: Arc<()>,
}

impl Remnant {
    /// Whether anybody is in it, zombies included.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self.signal(0), Err(error) if error.raw_os_error() == Some(libc::ESRCH))
    }

    pub(crate) fn kill(self) {
        // Whoever may not be signalled runs as another user by now.
        let _ = self.signal(libc::SIGKILL);
    }

    fn signal(&self, signal: i32) -> io::Result<()> {
        sys::kill_group_of(self.leader.as_fd(), signal)
    }
}

/// Counts them, each a descriptor.
pub(crate) struct Remnants {
    /// Shared by each.
    places: Arc<()>,
    max: usize,
}

impl Remnants {
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

    /// Takes hold of the group of a leader that is ours and not reaped. `None` if it leads none, there are enough, no
    /// descriptor is to be had, or pidfds do not signal groups (Linux before 6.9).
    pub(crate) fn hold(&self, leader: Pid) -> Option<Remnant> {
        if self.held() >= self.max || !sys::leads_group(leader) {
            return None;
        }
        let remnant = Remnant {
            leader: sys::pidfd_open(leader).ok()?,
            _place: Arc::clone(&self.places),
        };
        // The leader itself is in it, so what fails is the asking.
        remnant.signal(0).is_ok().then_some(remnant)
    }
}
