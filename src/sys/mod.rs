//! The system calls that no safe crate offers in the form needed here.
//!
//! Each function is one call; what it returns is what the kernel said.

#![allow(unsafe_code)]

mod kill;
mod mask;

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::Pid;
use crate::faults;
use crate::sync::per_process::PerProcess;
use crate::types::exit::{Outcome, Usage};

use self::kill::pidfd_send_signal;
pub(crate) use self::kill::{
    kill, kill_and_reap, kill_group, kill_group_numbered, kill_group_of, leads_group,
};
pub(crate) use self::mask::SignalMask;

/// What `waitid` said about a process.
pub(crate) enum WaitResult {
    /// It ended, and so.
    Ended(Outcome, Usage),
    /// It is a child, and has not ended (or a tracer has to see its end first).
    NotYet,
    /// `ECHILD`: not a child of ours, or reaped.
    NoChild,
}

/// Which process `waitid` is asked about, and whether it is reaped by it.
#[derive(Clone, Copy)]
pub(crate) enum WaitTarget<'a> {
    /// The process behind a pidfd; it stays a zombie (`WNOWAIT`).
    Look(BorrowedFd<'a>),
    /// The child with this pid; it stays a zombie.
    LookAtChild(Pid),
    /// The child with this pid, which is reaped.
    Reap(Pid),
    /// The child behind a pidfd, which is reaped.
    ReapBehind(BorrowedFd<'a>),
}

/// `waitid(2)` with `WEXITED | WNOHANG | __WALL` (a child whose end is told by another signal than
/// `SIGCHLD` is one, too), as the raw system call: the C library's
/// hides the fifth argument, through which the kernel gives the usage, also with `WNOWAIT`.
/// `P_PIDFD` since Linux 5.4.
pub(crate) fn waitid(target: WaitTarget<'_>) -> io::Result<WaitResult> {
    faults::inject("waitid")?;
    let (id_type, id, flags) = match target {
        WaitTarget::Look(pidfd) => (libc::P_PIDFD, pidfd.as_raw_fd(), libc::WNOWAIT),
        WaitTarget::LookAtChild(pid) => (libc::P_PID, pid.as_raw(), libc::WNOWAIT),
        WaitTarget::Reap(pid) => (libc::P_PID, pid.as_raw(), 0),
        WaitTarget::ReapBehind(pidfd) => (libc::P_PIDFD, pidfd.as_raw_fd(), 0),
    };
    // SAFETY: both are plain C structures for which all zeroes is a valid value.
    let (mut info, mut usage) = unsafe {
        (
            mem::zeroed::<libc::siginfo_t>(),
            mem::zeroed::<libc::rusage>(),
        )
    };
    // SAFETY: the two pointers are to live, writable structures of the types the
    // kernel fills; nothing keeps them past the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_waitid,
            id_type,
            id,
            &raw mut info,
            libc::WEXITED | libc::WNOHANG | libc::__WALL | flags,
            &raw mut usage,
        )
    };
    if result != 0 {
        let error = io::Error::last_os_error();
        return match error.raw_os_error() {
            Some(libc::ECHILD) => Ok(WaitResult::NoChild),
            _ => Err(error),
        };
    }
    // SAFETY: after a successful waitid the SIGCHLD fields are the ones that hold,
    // and with nothing to report the kernel wrote zeroes.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    if pid == 0 {
        return Ok(WaitResult::NotYet);
    }
    let outcome = match info.si_code {
        libc::CLD_EXITED => Outcome::Exited(status & 0xff),
        code => Outcome::Signaled {
            signal: status,
            core_dumped: code == libc::CLD_DUMPED,
        },
    };
    Ok(WaitResult::Ended(
        outcome,
        Usage {
            user: duration(usage.ru_utime),
            system: duration(usage.ru_stime),
            max_rss_kib: usage.ru_maxrss.try_into().unwrap_or(0),
        },
    ))
}

/// Waits until the child with this pid has ended, and leaves it a zombie. Returns at once if there is none.
pub(crate) fn wait_for_child(pid: Pid) {
    let mut info = mem::MaybeUninit::<libc::siginfo_t>::uninit();
    loop {
        // SAFETY: one pointer is to a live structure that the kernel may fill, the other null.
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

/// `struct pidfd_info` of `<linux/pidfd.h>` in its first published size
/// (`PIDFD_INFO_SIZE_VER0`); later kernels fill just that much.
#[repr(C)]
struct PidfdInfo {
    mask: u64,
    cgroupid: u64,
    pid: u32,
    tgid: u32,
    ppid: u32,
    ids: [u32; 8],
    exit_code: i32,
}

const PIDFD_INFO_PID: u64 = 1 << 0;
const PIDFD_INFO_EXIT: u64 = 1 << 3;
/// `_IOWR(0xFF, 11, struct pidfd_info)`
const PIDFD_GET_INFO: u32 = (3 << 30) | (64 << 16) | (0xff << 8) | 11;

/// `ioctl(PIDFD_GET_INFO)`, since Linux 6.13.
fn pidfd_info(pidfd: BorrowedFd<'_>, mask: u64) -> io::Result<PidfdInfo> {
    const { assert!(size_of::<PidfdInfo>() == 64) };
    // SAFETY: a plain C structure for which all zeroes is a valid value.
    let mut info: PidfdInfo = unsafe { mem::zeroed() };
    info.mask = mask;
    // SAFETY: the pointer is to a live, writable structure of the size that the
    // request number carries.
    let result = unsafe {
        libc::ioctl(
            pidfd.as_raw_fd(),
            PIDFD_GET_INFO as libc::Ioctl,
            &raw mut info,
        )
    };
    if result == 0 {
        Ok(info)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The pid behind a pidfd, as this process sees it. Since Linux 6.13;
/// `ESRCH` once it was reaped.
pub(crate) fn pidfd_pid(pidfd: BorrowedFd<'_>) -> io::Result<i32> {
    let info = pidfd_info(pidfd, PIDFD_INFO_PID)?;
    // A kernel that has the exit record answers for a reaped process too,
    // without a pid in it.
    match info.mask & PIDFD_INFO_PID != 0 && info.pid != 0 {
        true => Ok(info.pid.try_into().unwrap_or(0)),
        false => Err(io::Error::from_raw_os_error(libc::ESRCH)),
    }
}

/// The outcome that the kernel keeps with a pidfd after the process was reaped
/// (`PIDFD_INFO_EXIT`, since Linux 6.15). `None` if it was not reaped, or the kernel is older:
/// only the returned mask tells whether the field is there.
pub(crate) fn pidfd_exit(pidfd: BorrowedFd<'_>) -> Option<Outcome> {
    let info = pidfd_info(pidfd, PIDFD_INFO_EXIT).ok()?;
    (info.mask & PIDFD_INFO_EXIT != 0).then(|| Outcome::from_wait_status(info.exit_code))
}

/// Whether the process behind a pidfd was reaped: signal 0 reaches a zombie, and
/// nothing that was reaped. Since Linux 5.1.
pub(crate) fn pidfd_reaped(pidfd: BorrowedFd<'_>) -> bool {
    pidfd_send_signal(pidfd, 0, 0).is_err_and(|error| error.raw_os_error() == Some(libc::ESRCH))
}

/// Whether `SIGCHLD` is ignored or carries `SA_NOCLDWAIT`, so that children
/// reap themselves.
pub(crate) fn sigchld_ignored() -> bool {
    // SAFETY: a plain C structure for which all zeroes is a valid value; the call only
    // writes the current action into it.
    let action = unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        if libc::sigaction(libc::SIGCHLD, std::ptr::null(), &raw mut action) != 0 {
            return false;
        }
        action
    };
    action.sa_sigaction == libc::SIG_IGN || action.sa_flags & libc::SA_NOCLDWAIT != 0
}

/// `fork(2)`; the child runs `child` and ends with code 0, or 101 if it panicked.
///
/// # Safety
///
/// In a process with threads `child` may do only what is async-signal-safe, as
/// after any fork: other threads' locks stay locked in it for ever.
pub(crate) unsafe fn fork(child: impl FnOnce()) -> io::Result<Pid> {
    faults::inject("fork")?;
    // SAFETY: the caller answers for what the child does.
    let pid = unsafe { libc::fork() };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    if pid == 0 {
        // A panic must not unwind into the caller's frames, which belong to the parent.
        let end = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child));
        // SAFETY: ends the process at once, without the parent's exit handlers.
        unsafe { libc::_exit(if end.is_ok() { 0 } else { 101 }) }
    }
    Ok(Pid::new(pid).expect("fork gives the parent a positive pid"))
}

/// The soft limit on open descriptors.
pub(crate) fn descriptor_limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Runs `f` with the soft limit on open descriptors raised to the hard one.
///
/// The limit is the whole process's, so another thread may for a moment get a
/// descriptor above the soft limit; nothing is closed when it is set back.
pub(crate) fn with_raised_descriptor_limit<T>(f: impl FnOnce(u64) -> T) -> T {
    // One at a time: another one would take the raised limit for the one to go back to.
    static RAISED: PerProcess<Mutex<()>> = PerProcess::new();
    let _raised = RAISED.get().lock().unwrap_or_else(PoisonError::into_inner);
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: before.maximum,
        maximum: before.maximum,
    };
    let now = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => raised.current,
        Err(_) => before.current,
    };
    let value = f(now.unwrap_or(u64::MAX));
    if now != before.current {
        // Cannot fail: lowering the soft limit is always allowed.
        let _ = setrlimit(Resource::Nofile, before);
    }
    value
}

/// Whether a pidfd is of one thread instead of a process (`PIDFD_THREAD`, since
/// Linux 6.9; it shows as `O_EXCL`).
pub(crate) fn is_thread_pidfd(pidfd: BorrowedFd<'_>) -> bool {
    rustix::fs::fcntl_getfl(pidfd).is_ok_and(|flags| flags.contains(rustix::fs::OFlags::EXCL))
}

/// The number that a pidfd's inode has: never given twice while the
/// machine is up, if pidfds live on pidfs (since Linux 6.9). `None` where they do not.
pub(crate) fn pidfs_inode(pidfd: BorrowedFd<'_>) -> Option<u64> {
    const PID_FS_MAGIC: u64 = 0x5049_4446;
    let filesystem = rustix::fs::fstatfs(pidfd).ok()?;
    if filesystem.f_type as u64 != PID_FS_MAGIC {
        return None;
    }
    inode(pidfd)
}

/// The number that the inode behind a descriptor has. For a pidfd it means something only on pidfs.
pub(crate) fn inode(fd: BorrowedFd<'_>) -> Option<u64> {
    Some(rustix::fs::fstat(fd).ok()?.st_ino)
}

/// Opens a pidfd of a process (close-on-exec). Since Linux 5.3.
pub(crate) fn pidfd_open(pid: Pid) -> io::Result<std::os::fd::OwnedFd> {
    faults::inject("pidfd_open")?;
    Ok(rustix::process::pidfd_open(
        pid.as_rustix(),
        rustix::process::PidfdFlags::empty(),
    )?)
}

/// A duplicate of a descriptor that the caller knows to be open, close-on-exec.
pub(crate) fn duplicate(fd: std::os::fd::RawFd) -> io::Result<std::os::fd::OwnedFd> {
    faults::inject("fcntl")?;
    // SAFETY: borrowed for the call only, and open as the caller says.
    unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned()
}

/// Closes a forked child's copy of a descriptor that the parent owns, and the child never drops.
pub(crate) fn close_in_child(fd: &std::os::fd::OwnedFd) {
    // SAFETY: the owner is in the memory of a child that ends by `_exit`, and is not used after this.
    unsafe { libc::close(fd.as_raw_fd()) };
}

/// Rings an eventfd.
pub(crate) fn ring_eventfd(eventfd: impl AsFd) {
    // Fails only if the counter is at its maximum, and then it is readable anyway.
    let _ = rustix::io::write(eventfd, &1u64.to_ne_bytes());
}
