//! What the service stores of a watch when it begins.

use std::io;
use std::os::fd::OwnedFd;

use exitring_protocol::WatchFor;

use crate::serve::cgroups::LeafId;
use crate::serve::sys::process;

/// The stored part of a watch: its owner, and the identity of its process.
#[derive(Clone, Debug)]
pub(crate) struct WatchInfo {
    pub(crate) id: u64,
    pub(crate) uid: u32,
    pub(crate) client: String,
    pub(crate) tag: String,
    pub(crate) pid: i32,
    /// When the process started, in the clock ticks of `/proc/PID/stat`. With the pid, this
    /// identifies a process.
    pub(crate) start_ticks: u64,
    /// The inode of its pidfds, unique within a boot since Linux 6.9.
    pub(crate) inode: Option<u64>,
    pub(crate) spawned: bool,
    pub(crate) until: WatchFor,
    pub(crate) began_ms: u64,
    /// When the process times out, by the monotonic clock of its boot.
    pub(crate) deadline_ms: Option<u64>,
    /// The time between SIGTERM and SIGKILL.
    pub(crate) grace_ms: u64,
    /// When a previous service sent SIGTERM because the deadline had passed, by the same clock.
    pub(crate) terminated_ms: Option<u64>,
    /// The cgroup of the process, if it has one of its own.
    pub(crate) leaf: Option<LeafId>,
}

impl WatchInfo {
    /// Opens a pidfd of this very process. `None` if it was reaped.
    pub(crate) fn open_pidfd(&self) -> io::Result<Option<OwnedFd>> {
        let pidfd = match process::pidfd_open(self.pid) {
            Ok(pidfd) => pidfd,
            Err(error) => {
                return match error.raw_os_error() {
                    // A thread that has this number now is not the process either.
                    Some(libc::ESRCH | libc::EINVAL | libc::ENOENT) => Ok(None),
                    _ => Err(error),
                };
            }
        };
        let same = match (self.inode, process::inode(&pidfd)) {
            (Some(then), Some(now)) => then == now,
            // The pidfd is open while `stat` reads, so both are of one process, unless that has
            // been reaped by now.
            _ => {
                process::stat(self.pid)?.is_some_and(|stat| stat.start_ticks == self.start_ticks)
                    && process::pid_of(&pidfd)? == Some(self.pid)
            }
        };
        Ok(same.then_some(pidfd))
    }
}
