//! One process: its identity, whose it is, how it ended.

use std::fs;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use exitring_protocol::Outcome;
use rustix::process::{Pid, PidfdFlags};

/// Since Linux 6.9.
const PID_FS_MAGIC: u64 = 0x5049_4446;
/// `<linux/pidfd.h>`; since Linux 6.9.
const PIDFD_SIGNAL_PROCESS_GROUP: u32 = 1 << 2;
/// Since Linux 6.15.
const PIDFD_INFO_EXIT: u64 = 1 << 3;
/// `_IOWR(0xFF, 11, struct pidfd_info)`
const PIDFD_GET_INFO: u32 = (3 << 30) | (64 << 16) | (0xff << 8) | 11;

/// The user that is -1 in 16 bits, and therefore given to nobody.
const NOBODYS: u32 = 65_535;

/// What `/proc/PID/stat` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) state: u8,
    pub(crate) start_ticks: u64,
}

/// `None`: there is no such process.
pub(crate) fn stat(pid: i32) -> Option<Stat> {
    // Bytes, for a name may be anything.
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses, and may have some.
    let after = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let mut fields = stat.get(after..)?.split(|byte| *byte == b' ').skip(1);
    let state = *fields.next()?.first()?;
    // The 22nd, of which the state is the third.
    let start = str::from_utf8(fields.nth(18)?).ok()?;
    Some(Stat {
        state,
        start_ticks: start.parse().ok()?,
    })
}

/// The user that started it, and the saved one: either may signal it (`kill(2)`).
pub(crate) fn users(pid: i32) -> Option<[u32; 2]> {
    let status = fs::read(format!("/proc/{pid}/status")).ok()?;
    let status = String::from_utf8_lossy(&status);
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    let mut ids = line.split_ascii_whitespace().map(str::parse);
    let real = ids.next()?.ok()?;
    let saved = ids.nth(1)?.ok()?;
    Some([real, saved])
}

/// Zero and negative numbers mean groups.
fn positive(pid: i32) -> Option<Pid> {
    (pid > 0).then(|| Pid::from_raw(pid)).flatten()
}

pub(crate) fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    let pid = positive(pid).ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
    Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)
}

/// The number that identifies a process for the time of the boot.
pub(crate) fn inode(pidfd: impl AsFd) -> Option<u64> {
    let filesystem = rustix::fs::fstatfs(&pidfd).ok()?;
    (filesystem.f_type as u64 == PID_FS_MAGIC).then_some(())?;
    Some(rustix::fs::fstat(&pidfd).ok()?.st_ino)
}

/// Whether it is a pidfd, by its link in `/proc`: unlike `fstat` that asks no file system, which may be a program that does
/// not answer.
pub(crate) fn is_pidfd(fd: impl AsFd) -> bool {
    let link = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    // No path is like this: paths begin with a slash.
    fs::read_link(link).is_ok_and(|link| link.as_os_str() == "anon_inode:[pidfd]")
}

/// The pid behind a pidfd: `Ok(None)` once it was reaped, or if it is in another pid namespace; an error if it is no pidfd.
pub(crate) fn pid_of(pidfd: impl AsFd) -> io::Result<Option<i32>> {
    let fd = pidfd.as_fd().as_raw_fd();
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}"))?;
    let pid = info
        .lines()
        .find_map(|line| line.strip_prefix("Pid:"))
        .and_then(|pid| pid.trim().parse::<i32>().ok())
        .ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))?;
    Ok((pid > 0).then_some(pid))
}

/// The same with the rights of a user: of a group it reaches only those whom the user may signal, which nobody but the kernel
/// can tell at the moment when it does.
///
/// Users are the kernel's by thread, so it is done by a thread of its own. The user is its effective one, by which the right
/// is measured, and not its real or saved one, by which the user could signal the thread, and with it the service: those are
/// a number that is nobody's.
pub(crate) fn signal_as(
    uid: u32,
    pidfd: BorrowedFd<'_>,
    number: i32,
    group: bool,
) -> io::Result<()> {
    use rustix::thread::{Uid, set_thread_res_uid};
    std::thread::scope(|scope| {
        let act = || {
            let nobodys = Uid::from_raw(NOBODYS);
            set_thread_res_uid(nobodys, Uid::from_raw(uid), nobodys)?;
            signal(pidfd, number, group)
        };
        let thread = std::thread::Builder::new().spawn_scoped(scope, act)?;
        let panicked = || io::Error::other("the thread panicked");
        thread.join().unwrap_or_else(|_| Err(panicked()))
    })
}

/// Sends a signal, to the process or to the group that it leads. There is no race: a pidfd means one process for ever.
pub(crate) fn signal(pidfd: BorrowedFd<'_>, signal: i32, group: bool) -> io::Result<()> {
    let flags = if group { PIDFD_SIGNAL_PROCESS_GROUP } else { 0 };
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

/// `struct pidfd_info` of `<linux/pidfd.h>` in its first published size.
#[repr(C)]
struct PidfdInfo {
    mask: u64,
    unused: [u32; 13],
    exit_code: i32,
}

/// How the process behind a pidfd ended, if it was reaped and the kernel tells (since Linux 6.15).
pub(crate) fn outcome_of(pidfd: impl AsFd) -> Option<Outcome> {
    const { assert!(size_of::<PidfdInfo>() == 64) };
    // SAFETY: a plain C structure for which all zeroes is a valid value.
    let mut info: PidfdInfo = unsafe { mem::zeroed() };
    info.mask = PIDFD_INFO_EXIT;
    // SAFETY: the pointer is to a live, writable structure of the size that the request number carries.
    let result = unsafe {
        libc::ioctl(
            pidfd.as_fd().as_raw_fd(),
            PIDFD_GET_INFO as libc::Ioctl,
            &raw mut info,
        )
    };
    // Only the returned mask tells whether the field is there.
    (result == 0 && info.mask & PIDFD_INFO_EXIT != 0).then(|| from_wait_status(info.exit_code))
}

fn from_wait_status(raw: i32) -> Outcome {
    use std::os::unix::process::ExitStatusExt;
    let status = std::process::ExitStatus::from_raw(raw);
    match status.signal() {
        Some(signal) => Outcome::Signaled {
            signal,
            core_dumped: status.core_dumped(),
        },
        None => Outcome::Exited((raw >> 8) & 0xff),
    }
}

/// Whether it is a child of this process, ended or not.
pub(crate) fn is_own_child(pid: i32) -> bool {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let Some(pid) = positive(pid) else {
        return false;
    };
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(pid), look).is_ok()
}

/// Reaps a child of ours that has ended.
pub(crate) fn reap(pid: i32) {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    if let Some(pid) = positive(pid) {
        let reap = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        // It has ended, and nobody else reaps here: what could fail is that it was reaped.
        let _ = waitid(WaitId::Pid(pid), reap);
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_is_told_by_its_start_and_a_pidfd_tells_how_it_ended() {
        let mut child = Command::new("sh")
            .args(["-c", "read line; exit 7"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("sh starts");
        let pid = child.id() as i32;
        let own = stat(std::process::id() as i32).expect("we live");
        let its = stat(pid).expect("it lives");
        assert!(its.start_ticks >= own.start_ticks);
        assert!(is_own_child(pid) && !is_own_child(1));
        let uid = rustix::process::getuid().as_raw();
        assert_eq!(users(pid), Some([uid, uid]));
        let pidfd = pidfd_open(pid).expect("it lives");
        assert_eq!(pid_of(&pidfd).expect("it is a pidfd"), Some(pid));
        assert_eq!(outcome_of(&pidfd), None);
        child.wait().expect("it is ours");
        assert_eq!(pid_of(&pidfd).expect("it is a pidfd"), None);
        assert_eq!(stat(pid), None);
        if let Some(outcome) = outcome_of(&pidfd) {
            assert_eq!(outcome, Outcome::Exited(7));
        }
        let file = fs::File::open("/dev/null").expect("it is there");
        assert!(is_pidfd(&pidfd) && !is_pidfd(&file));
        assert!(pid_of(&file).is_err() && outcome_of(&file).is_none());
    }
}
