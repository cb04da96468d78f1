//! Signals to children: by pidfd where one can be had, and by number else.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use super::{WaitResult, WaitTarget, pidfd_open, waitid};
use crate::Pid;

/// Signals a child that is ours to reap. Through a pidfd where one can be had: it is looked at first whether the process is our
/// child, and whatever happens between that look and the signal, the signal reaches no other process. By its pid else.
pub(crate) fn kill(pid: Pid, signal: i32) -> io::Result<()> {
    if let Some(sent) = signal_child(pid, signal, 0) {
        return sent;
    }
    // SAFETY: no pointers.
    match unsafe { libc::kill(pid.as_raw(), signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The same for the process group that the child leads; `None` if it leads none.
pub(crate) fn kill_group(leader: Pid, signal: i32) -> Option<io::Result<()>> {
    leads_group(leader).then(
        || match signal_child(leader, signal, PIDFD_SIGNAL_PROCESS_GROUP) {
            Some(sent) => sent,
            None => kill_group_numbered(leader, signal),
        },
    )
}

/// `kill(2)` on the process group with this number, which the caller knows to be no other group's.
pub(crate) fn kill_group_numbered(leader: Pid, signal: i32) -> io::Result<()> {
    // SAFETY: no pointers.
    match unsafe { libc::kill(-leader.as_raw(), signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// `None`: it cannot be done through a pidfd. There is no descriptor, the kernel or a seccomp profile does not have the calls, or
/// (before Linux 6.9) not for groups.
fn signal_child(pid: Pid, signal: i32, flags: libc::c_uint) -> Option<io::Result<()>> {
    let pidfd = match pidfd_open(pid) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Some(Err(error)),
        opened => opened.ok()?,
    };
    if let Ok(WaitResult::NoChild) = waitid(WaitTarget::Look(pidfd.as_fd())) {
        return Some(Err(io::Error::from_raw_os_error(libc::ESRCH)));
    }
    let sent = pidfd_send_signal(pidfd.as_fd(), signal, flags);
    match sent.as_ref().map_err(io::Error::raw_os_error) {
        Ok(()) | Err(Some(libc::ESRCH)) => Some(sent),
        // A number that is no signal is refused by kill(2), too.
        _ => None,
    }
}

/// Whether the process, which is not reaped, leads a group.
pub(crate) fn leads_group(pid: Pid) -> bool {
    // SAFETY: no pointers.
    unsafe { libc::getpgid(pid.as_raw()) == pid.as_raw() }
}

const PIDFD_SIGNAL_PROCESS_GROUP: libc::c_uint = 1 << 2;

/// Signals the group that the process behind the pidfd led, also after it was reaped, when its number may be
/// another's. `PIDFD_SIGNAL_PROCESS_GROUP`, since Linux 6.9 (kernel commit e1fb1dc08e73); before, `EINVAL`.
pub(crate) fn kill_group_of(leader: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    pidfd_send_signal(leader, signal, PIDFD_SIGNAL_PROCESS_GROUP)
}

pub(super) fn pidfd_send_signal(
    pidfd: BorrowedFd<'_>,
    signal: i32,
    flags: libc::c_uint,
) -> io::Result<()> {
    // SAFETY: no pointer is passed but a null one, which the call takes for "no siginfo".
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            flags,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Kills and reaps a child of ours that nobody else knows of. A wait for any child may reap it first; through a pidfd,
/// where one can be had, that is noticed, and no other process is met.
pub(crate) fn kill_and_reap(pid: Pid) {
    let pidfd = pidfd_open(pid);
    let (id_type, id) = match &pidfd {
        Ok(pidfd) => (libc::P_PIDFD, pidfd.as_raw_fd()),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return,
        Err(_) => (libc::P_PID, pid.as_raw()),
    };
    if kill(pid, libc::SIGKILL).is_err_and(|error| error.raw_os_error() == Some(libc::ESRCH)) {
        return;
    }
    loop {
        // SAFETY: no pointers but null ones, which the call takes for "not wanted".
        let result = unsafe {
            libc::syscall(
                libc::SYS_waitid,
                id_type,
                id,
                std::ptr::null_mut::<libc::siginfo_t>(),
                libc::WEXITED | libc::__WALL,
                std::ptr::null_mut::<libc::rusage>(),
            )
        };
        if result == 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return;
        }
    }
}
