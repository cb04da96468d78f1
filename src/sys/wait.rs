//! Waiting for processes: `waitid(2)`.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use crate::Pid;
use crate::faults;
use crate::types::exit::{Outcome, Usage};

/// The answer of `waitid` for one process.
pub(crate) enum WaitResult {
    /// A child that has ended, and its usage if the call reads it.
    Ended(Outcome, Option<Usage>),
    /// A child with nothing to report: it runs, or its tracer has not received its end yet.
    Pending,
    /// `ECHILD`: not a child of this process, or reaped.
    NoChild,
}

/// The process of a `waitid` call, and whether the call reaps it.
#[derive(Clone, Copy)]
pub(crate) enum WaitTarget<'a> {
    /// The process behind a pidfd, which stays a zombie (`WNOWAIT`).
    PeekPidfd(BorrowedFd<'a>),
    /// The child with this pid, which stays a zombie (`WNOWAIT`).
    PeekPid(Pid),
    /// The child behind a pidfd, which is reaped.
    ReapPidfd(BorrowedFd<'a>),
    /// The child with this pid, which is reaped.
    ReapPid(Pid),
}

/// `waitid(2)` with `WEXITED | WNOHANG | __WALL`, as the raw system call. `P_PIDFD` needs
/// Linux 5.4.
///
/// The wrapper of the C library hides the fifth argument, through which the kernel returns the
/// usage, also with `WNOWAIT`. `__WALL` includes children that report their end by another signal
/// than `SIGCHLD`.
pub(crate) fn waitid(target: WaitTarget<'_>) -> io::Result<WaitResult> {
    // SAFETY: a plain C structure for which all zeroes is a valid value.
    let mut usage = unsafe { mem::zeroed::<libc::rusage>() };
    waitid_into(target, Some(&mut usage))
}

/// Like [`waitid`], with or without the usage, which the kernel has to add up.
pub(crate) fn waitid_with(target: WaitTarget<'_>, usage: bool) -> io::Result<WaitResult> {
    match usage {
        true => waitid(target),
        false => waitid_into(target, None),
    }
}

fn waitid_into(
    target: WaitTarget<'_>,
    mut usage: Option<&mut libc::rusage>,
) -> io::Result<WaitResult> {
    faults::inject("waitid")?;
    let (id_type, id, flags) = match target {
        WaitTarget::PeekPidfd(pidfd) => (libc::P_PIDFD, pidfd.as_raw_fd(), libc::WNOWAIT),
        WaitTarget::PeekPid(pid) => (libc::P_PID, pid.as_raw(), libc::WNOWAIT),
        WaitTarget::ReapPidfd(pidfd) => (libc::P_PIDFD, pidfd.as_raw_fd(), 0),
        WaitTarget::ReapPid(pid) => (libc::P_PID, pid.as_raw(), 0),
    };
    // SAFETY: a plain C structure for which all zeroes is a valid value.
    let mut info = unsafe { mem::zeroed::<libc::siginfo_t>() };
    let usage_pointer = usage
        .as_deref_mut()
        .map_or(std::ptr::null_mut(), std::ptr::from_mut);
    // SAFETY: the pointers are to live, writable structures of the types that the kernel fills, or
    // the second is null; nothing keeps them after the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_waitid,
            id_type,
            id,
            &raw mut info,
            libc::WEXITED | libc::WNOHANG | libc::__WALL | flags,
            usage_pointer,
        )
    };
    if result != 0 {
        let error = io::Error::last_os_error();
        return match error.raw_os_error() {
            Some(libc::ECHILD) => Ok(WaitResult::NoChild),
            _ => Err(error),
        };
    }
    // SAFETY: after a successful waitid the fields of SIGCHLD are valid. With nothing to report
    // the kernel wrote zeroes.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    if pid == 0 {
        return Ok(WaitResult::Pending);
    }
    let outcome = match info.si_code {
        libc::CLD_EXITED => Outcome::Exited(status & 0xff),
        code => Outcome::Signaled {
            signal: status,
            core_dumped: code == libc::CLD_DUMPED,
        },
    };
    let usage = usage.map(|usage| Usage {
        user: duration(usage.ru_utime),
        system: duration(usage.ru_stime),
        max_rss_kib: usage.ru_maxrss.try_into().unwrap_or(0),
    });
    Ok(WaitResult::Ended(outcome, usage))
}

/// The answer of `waitid` for the children of this process in a process group.
pub(crate) enum GroupResult {
    /// This child has ended. It stays a zombie.
    Ended(Pid),
    /// There are children, and none has ended.
    Pending,
    /// No child of this process is in the group.
    NoChild,
}

/// Finds a child in a process group that has ended (`waitid(2)` with `P_PGID` and `WNOWAIT`).
pub(crate) fn peek_group(leader: Pid) -> GroupResult {
    // SAFETY: a plain C structure for which all zeroes is a valid value.
    let mut info = unsafe { mem::zeroed::<libc::siginfo_t>() };
    // SAFETY: one pointer is to a live structure that the kernel may fill, the other is null.
    let result = unsafe {
        libc::syscall(
            libc::SYS_waitid,
            libc::P_PGID,
            leader.as_raw(),
            &raw mut info,
            libc::WEXITED | libc::WNOHANG | libc::__WALL | libc::WNOWAIT,
            std::ptr::null_mut::<libc::rusage>(),
        )
    };
    // SAFETY: after a successful waitid the fields of SIGCHLD are valid. With nothing to report
    // the kernel wrote zeroes.
    match (result, Pid::new(unsafe { info.si_pid() })) {
        (0, Ok(pid)) => GroupResult::Ended(pid),
        (0, Err(_)) => GroupResult::Pending,
        _ => GroupResult::NoChild,
    }
}

/// Blocks until the child with this pid has ended, and leaves it a zombie. Returns at once if there
/// is no such child.
pub(crate) fn wait_for_child(pid: Pid) {
    let mut info = mem::MaybeUninit::<libc::siginfo_t>::uninit();
    loop {
        // SAFETY: one pointer is to a live structure that the kernel may fill, the other is null.
        let result = unsafe {
            libc::syscall(
                libc::SYS_waitid,
                libc::P_PID,
                pid.as_raw(),
                info.as_mut_ptr(),
                libc::WEXITED | libc::__WALL | libc::WNOWAIT,
                std::ptr::null_mut::<libc::rusage>(),
            )
        };
        if result == 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return;
        }
    }
}

fn duration(time: libc::timeval) -> Duration {
    let micros = time.tv_sec.saturating_mul(1_000_000) + time.tv_usec;
    Duration::from_micros(micros.try_into().unwrap_or(0))
}

/// Whether the kernel reaps children itself, because `SIGCHLD` is ignored or its action has
/// `SA_NOCLDWAIT`.
pub(crate) fn sigchld_ignored() -> bool {
    // SAFETY: a plain C structure for which all zeroes is a valid value; the call only writes the
    // current action into it.
    let action = unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        if libc::sigaction(libc::SIGCHLD, std::ptr::null(), &raw mut action) != 0 {
            return false;
        }
        action
    };
    action.sa_sigaction == libc::SIG_IGN || action.sa_flags & libc::SA_NOCLDWAIT != 0
}
