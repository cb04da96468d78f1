//! The pid behind a pidfd that the program passes to the watcher.

use std::os::fd::{AsRawFd, BorrowedFd};

use crate::Pid;
use crate::error::{NoDescriptors, SystemError, WatchError};
use crate::sys;

/// The pid of the process behind a pidfd, in the pid namespace of this process.
pub(crate) fn pid_of(pidfd: BorrowedFd<'_>) -> Result<Pid, WatchError> {
    let pid = match sys::pidfd_pid(pidfd) {
        Ok(pid) => i64::from(pid),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {
            return Err(WatchError::Reaped);
        }
        // Not a pidfd, or Linux before 6.13.
        Err(_) => pid_from_proc(pidfd)?,
    };
    if sys::is_thread_pidfd(pidfd) {
        return Err(WatchError::ThreadPidfd);
    }
    match i32::try_from(pid).map(Pid::new) {
        Ok(Ok(pid)) => Ok(pid),
        // The kernel writes -1 for a reaped process, and 0 for a process that has no pid in this
        // namespace.
        _ => Err(WatchError::Reaped),
    }
}

/// The `Pid:` line of `/proc/self/fdinfo` (`proc(5)`), which only pidfds have.
fn pid_from_proc(pidfd: BorrowedFd<'_>) -> Result<i64, WatchError> {
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
    let info = std::fs::read_to_string(path).map_err(|source| {
        match source.raw_os_error().and_then(NoDescriptors::from_errno) {
            Some(error) => WatchError::from(error),
            None => SystemError {
                call: "reading /proc/self/fdinfo",
                source,
            }
            .into(),
        }
    })?;
    info.lines()
        .find_map(|line| line.strip_prefix("Pid:"))
        .and_then(|pid| pid.trim().parse().ok())
        .ok_or(WatchError::NotAPidfd)
}
