//! Signals to processes and process groups, through pidfds where possible.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use super::pidfd::{pidfd_open, pidfd_send_signal};
use super::wait::{WaitResult, WaitTarget, waitid};
use crate::Pid;

/// Sends a signal to a child that the watcher owns.
///
/// If a pidfd can be opened, the call checks through it that the process is a child, and sends the
/// signal through it. So whatever happens between the check and the signal, the signal reaches no
/// other process. Otherwise the signal is sent by pid.
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

/// Sends a signal to the process group that an owned child leads, like [`kill`]; `None` if it leads
/// none.
pub(crate) fn kill_group(leader: Pid, signal: i32) -> Option<io::Result<()>> {
    leads_group(leader).then(
        || match signal_child(leader, signal, PIDFD_SIGNAL_PROCESS_GROUP) {
            Some(sent) => sent,
            None => kill_group_by_number(leader, signal),
        },
    )
}

/// `kill(2)` on a process group by its number. The caller knows that no other group has the number.
pub(crate) fn kill_group_by_number(leader: Pid, signal: i32) -> io::Result<()> {
    // SAFETY: no pointers.
    match unsafe { libc::kill(-leader.as_raw(), signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sends a signal through a pidfd. `None` if that is not possible: no descriptor is free, the
/// kernel or a seccomp profile does not provide the calls, or (for groups) the kernel is older than
/// Linux 6.9.
fn signal_child(pid: Pid, signal: i32, flags: libc::c_uint) -> Option<io::Result<()>> {
    let pidfd = match pidfd_open(pid) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Some(Err(error)),
        opened => opened.ok()?,
    };
    if let Ok(WaitResult::NoChild) = waitid(WaitTarget::PeekPidfd(pidfd.as_fd())) {
        return Some(Err(io::Error::from_raw_os_error(libc::ESRCH)));
    }
    let sent = pidfd_send_signal(pidfd.as_fd(), signal, flags);
    match sent.as_ref().map_err(io::Error::raw_os_error) {
        Ok(()) | Err(Some(libc::ESRCH)) => Some(sent),
        // An invalid signal number is left to kill(2), which refuses it too.
        _ => None,
    }
}

/// Whether any process has this number, be it one that must not be signalled.
pub(crate) fn is_pid_in_use(pid: Pid) -> bool {
    // SAFETY: no pointers.
    let sent = unsafe { libc::kill(pid.as_raw(), 0) };
    sent == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH)
}

/// Whether a process that was not reaped leads a process group.
pub(crate) fn leads_group(pid: Pid) -> bool {
    // SAFETY: no pointers.
    unsafe { libc::getpgid(pid.as_raw()) == pid.as_raw() }
}

/// Whether a process is in the group with this number, be it one that must not be signalled.
pub(crate) fn group_exists(leader: Pid) -> bool {
    match kill_group_by_number(leader, 0) {
        Ok(()) => true,
        Err(error) => error.raw_os_error() == Some(libc::EPERM),
    }
}

const PIDFD_SIGNAL_PROCESS_GROUP: libc::c_uint = 1 << 2;

/// Sends a signal to the group that the process behind the pidfd led, even after the leader was
/// reaped and its number may belong to another group. Needs `PIDFD_SIGNAL_PROCESS_GROUP`, Linux 6.9
/// (kernel commit e1fb1dc08e73); older kernels return `EINVAL`.
pub(crate) fn kill_group_by_pidfd(leader: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    pidfd_send_signal(leader, signal, PIDFD_SIGNAL_PROCESS_GROUP)
}

/// Kills and reaps a child whose pid no other code knows. Returns `false` if this process is not
/// permitted to kill it: the child may live for long, and is not waited for.
///
/// A wait for any child may still reap it first. If a pidfd can be opened, that is noticed, and no
/// other process is signalled.
pub(crate) fn kill_and_reap(pid: Pid) -> bool {
    let pidfd = pidfd_open(pid);
    let (id_type, id) = match &pidfd {
        Ok(pidfd) => (libc::P_PIDFD, pidfd.as_raw_fd()),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return true,
        Err(_) => (libc::P_PID, pid.as_raw()),
    };
    match kill(pid, libc::SIGKILL) {
        Ok(()) => reap(id_type, id),
        Err(error) => return error.raw_os_error() == Some(libc::ESRCH),
    }
    true
}

/// Reaps a child that is ending, and blocks until then. A wait for any child may reap it first,
/// which the pidfd shows.
pub(crate) fn reap_ending(pid: Pid, pidfd: Option<BorrowedFd<'_>>) {
    match pidfd {
        Some(pidfd) => reap(libc::P_PIDFD, pidfd.as_raw_fd()),
        None => reap(libc::P_PID, pid.as_raw()),
    }
}

fn reap(id_type: libc::idtype_t, id: i32) {
    loop {
        // SAFETY: all pointers are null, which means "not wanted".
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

/// Makes this process the parent of descendants whose parents end (`PR_SET_CHILD_SUBREAPER`,
/// Linux 3.4).
pub(crate) fn set_subreaper() -> io::Result<()> {
    // SAFETY: no pointers.
    match unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
