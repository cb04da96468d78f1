//! Pidfds, and what the kernel reports about the process behind one.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::descriptor::inode;
use crate::Pid;
use crate::faults;
use crate::types::exit::Outcome;

/// Opens a pidfd of a process, with close-on-exec. Since Linux 5.3.
pub(crate) fn pidfd_open(pid: Pid) -> io::Result<OwnedFd> {
    faults::inject("pidfd_open")?;
    let flags = rustix::process::PidfdFlags::empty();
    Ok(rustix::process::pidfd_open(pid.as_rustix(), flags)?)
}

/// `struct pidfd_info` of `<linux/pidfd.h>` in its first published size
/// (`PIDFD_INFO_SIZE_VER0`). Later kernels fill only that much.
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
    // SAFETY: the pointer is to a live, writable structure of the size that the request number
    // encodes.
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

/// The pid of the process behind a pidfd, in the pid namespace of this process; `ESRCH` if it was
/// reaped. Since Linux 6.13.
pub(crate) fn pidfd_pid(pidfd: BorrowedFd<'_>) -> io::Result<i32> {
    let info = pidfd_info(pidfd, PIDFD_INFO_PID)?;
    // A kernel that keeps the exit status also answers for a reaped process, without a pid.
    match info.mask & PIDFD_INFO_PID != 0 && info.pid != 0 {
        true => Ok(info.pid.try_into().unwrap_or(0)),
        false => Err(io::Error::from_raw_os_error(libc::ESRCH)),
    }
}

/// The outcome that the kernel keeps with a pidfd after the process was reaped
/// (`PIDFD_INFO_EXIT`, since Linux 6.15). `None` if the process was not reaped or the kernel is
/// older: only the returned mask shows whether the field is filled.
pub(crate) fn pidfd_exit(pidfd: BorrowedFd<'_>) -> Option<Outcome> {
    let info = pidfd_info(pidfd, PIDFD_INFO_EXIT).ok()?;
    (info.mask & PIDFD_INFO_EXIT != 0).then(|| Outcome::from_wait_status(info.exit_code))
}

/// Whether the process behind a pidfd was reaped: signal 0 reaches a zombie, but not a reaped
/// process. Since Linux 5.1.
pub(crate) fn pidfd_reaped(pidfd: BorrowedFd<'_>) -> bool {
    pidfd_send_signal(pidfd, 0, 0).is_err_and(|error| error.raw_os_error() == Some(libc::ESRCH))
}

/// Whether a pidfd refers to one thread instead of a process (`PIDFD_THREAD`, since Linux 6.9,
/// visible as `O_EXCL`).
pub(crate) fn is_thread_pidfd(pidfd: BorrowedFd<'_>) -> bool {
    rustix::fs::fcntl_getfl(pidfd).is_ok_and(|flags| flags.contains(rustix::fs::OFlags::EXCL))
}

/// The inode number of a pidfd on pidfs (since Linux 6.9), which is not reused before the next
/// boot. `None` if the pidfd is not on pidfs.
pub(crate) fn pidfs_inode(pidfd: BorrowedFd<'_>) -> Option<u64> {
    const PID_FS_MAGIC: u64 = 0x5049_4446;
    let filesystem = rustix::fs::fstatfs(pidfd).ok()?;
    if filesystem.f_type as u64 != PID_FS_MAGIC {
        return None;
    }
    inode(pidfd)
}

/// Sends a signal to the process behind a pidfd, or as `flags` say.
pub(super) fn pidfd_send_signal(
    pidfd: BorrowedFd<'_>,
    signal: i32,
    flags: libc::c_uint,
) -> io::Result<()> {
    // SAFETY: the only pointer is null, which means "no siginfo".
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
