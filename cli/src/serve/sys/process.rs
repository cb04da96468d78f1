//! Queries about one process: identity, owner, outcome; and signals to it.

use std::ffi::CStr;
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

/// `TASK_COMM_LEN`: the bytes of a thread's name, with its final zero.
const NAME_BYTES: usize = 16;
/// The name of a child at its start gate. The exec of its program replaces it.
pub(crate) const START_GATE_NAME: &CStr = c"exitring:gate";

/// The uid that is -1 in 16 bits, and therefore assigned to no user.
const UNASSIGNED_UID: u32 = 65_535;

/// Fields of `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    /// The name of its first thread, padded with zeroes. A zombie keeps it.
    name: [u8; NAME_BYTES],
    state: u8,
    threads: u32,
    pub(crate) start_ticks: u64,
}

impl Stat {
    /// Whether the process has ended. The first thread of a process may have ended before others,
    /// and is a zombie then, too.
    pub(crate) fn has_ended(self) -> bool {
        self.state == b'Z' && self.threads <= 1
    }

    /// Whether the process is at its start gate, or ended there: it has not executed its program.
    pub(crate) fn is_at_start_gate(self) -> bool {
        let name = START_GATE_NAME.to_bytes();
        self.name.starts_with(name) && self.name[name.len()..].iter().all(|byte| *byte == 0)
    }
}

/// Reads `/proc/PID/stat`. `None` if there is no such process.
///
/// # Errors
///
/// Those of reading the file, such as a lack of descriptors. They say nothing about the process.
pub(crate) fn stat(pid: i32) -> io::Result<Option<Stat>> {
    // Bytes: a process name need not be UTF-8.
    let stat = read_of_process(pid, "stat")?;
    Ok(stat.and_then(|stat| parse_stat(&stat)))
}

fn parse_stat(stat: &[u8]) -> Option<Stat> {
    // The name is in parentheses, and may contain parentheses.
    let before = stat.iter().position(|byte| *byte == b'(')? + 1;
    let after = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let mut name = [0; NAME_BYTES];
    for (byte, its) in name.iter_mut().zip(stat.get(before..after - 1)?) {
        *byte = *its;
    }
    // The first of these is field 3.
    let fields: Vec<&str> = str::from_utf8(stat.get(after..)?)
        .ok()?
        .split_ascii_whitespace()
        .collect();
    let field = |number: usize| fields.get(number - 3);
    Some(Stat {
        name,
        state: *field(3)?.as_bytes().first()?,
        threads: field(20)?.parse().ok()?,
        start_ticks: field(22)?.parse().ok()?,
    })
}

/// Reads a file in the directory of a process. `None` if there is no such process.
fn read_of_process(pid: i32, name: &str) -> io::Result<Option<Vec<u8>>> {
    match fs::read(format!("/proc/{pid}/{name}")) {
        Ok(text) => Ok(Some(text)),
        Err(error) => match error.raw_os_error() {
            Some(libc::ENOENT | libc::ESRCH) => Ok(None),
            _ => Err(error),
        },
    }
}

/// The real and the saved user id of a process. Either user may signal it (`kill(2)`). `None` if
/// there is no such process.
///
/// # Errors
///
/// Those of [`stat`].
pub(crate) fn users(pid: i32) -> io::Result<Option<[u32; 2]>> {
    let status = read_of_process(pid, "status")?;
    Ok(status.and_then(|status| parse_users(&status)))
}

fn parse_users(status: &[u8]) -> Option<[u32; 2]> {
    let status = String::from_utf8_lossy(status);
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    let mut ids = line.split_ascii_whitespace().map(str::parse);
    let real = ids.next()?.ok()?;
    let saved = ids.nth(1)?.ok()?;
    Some([real, saved])
}

/// A positive pid. Zero and negative numbers mean process groups.
fn positive(pid: i32) -> Option<Pid> {
    (pid > 0).then(|| Pid::from_raw(pid)).flatten()
}

pub(crate) fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    let pid = positive(pid).ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
    Ok(rustix::process::pidfd_open(pid, PidfdFlags::empty())?)
}

/// The inode of a pidfd, which identifies a process within a boot (Linux 6.9).
pub(crate) fn inode(pidfd: impl AsFd) -> Option<u64> {
    let filesystem = rustix::fs::fstatfs(&pidfd).ok()?;
    (filesystem.f_type as u64 == PID_FS_MAGIC).then_some(())?;
    Some(rustix::fs::fstat(&pidfd).ok()?.st_ino)
}

/// Whether a descriptor is a pidfd, by its link in `/proc`. Unlike `fstat`, this does not query the
/// file system of the descriptor, which may be a program (FUSE) that does not answer.
pub(crate) fn is_pidfd(fd: impl AsFd) -> bool {
    let link = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    // This is not the path of a file: paths start with a slash.
    fs::read_link(link).is_ok_and(|link| link.as_os_str() == "anon_inode:[pidfd]")
}

/// The pid of a pidfd. `Ok(None)` once the process was reaped, or if it is in another pid
/// namespace; `EBADF` if the descriptor is not a pidfd.
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

/// Sends a signal with the permissions of a user. In a group, the signal reaches only the processes
/// that the user may signal. Only the kernel can check that without a race.
///
/// The kernel keeps credentials per thread, so this uses a thread of its own. The thread takes the
/// user's id as its effective id, which the permission check uses. Its real and saved ids become an
/// unassigned uid: with the user's id there, the user could signal the thread and so the service.
pub(crate) fn signal_as(
    uid: u32,
    pidfd: BorrowedFd<'_>,
    number: i32,
    group: bool,
) -> io::Result<()> {
    use rustix::thread::{Uid, set_thread_res_uid};
    std::thread::scope(|scope| {
        let send = || {
            let unassigned = Uid::from_raw(UNASSIGNED_UID);
            set_thread_res_uid(unassigned, Uid::from_raw(uid), unassigned)?;
            signal(pidfd, number, group)
        };
        let thread = std::thread::Builder::new().spawn_scoped(scope, send)?;
        let panicked = || io::Error::other("the thread panicked");
        thread.join().unwrap_or_else(|_| Err(panicked()))
    })
}

/// Sends a signal to a process, or to the group that it leads. A pidfd refers to one process for
/// ever, so this cannot hit a process that reused the pid.
pub(crate) fn signal(pidfd: BorrowedFd<'_>, signal: i32, group: bool) -> io::Result<()> {
    let flags = if group { PIDFD_SIGNAL_PROCESS_GROUP } else { 0 };
    // SAFETY: the only pointer is null, which the call takes as "no siginfo".
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

/// `struct pidfd_info` of `<linux/pidfd.h>`, in its first published size.
#[repr(C)]
struct PidfdInfo {
    mask: u64,
    unused: [u32; 13],
    exit_code: i32,
}

/// The outcome of a reaped process, if the kernel still reports it for its pidfd (since Linux
/// 6.15).
pub(crate) fn outcome_of(pidfd: impl AsFd) -> Option<Outcome> {
    const { assert!(size_of::<PidfdInfo>() == 64) };
    // SAFETY: all zeroes is a valid value of this plain C structure.
    let mut info: PidfdInfo = unsafe { mem::zeroed() };
    info.mask = PIDFD_INFO_EXIT;
    // SAFETY: the pointer is to a live, writable structure of the size in the request number.
    let result = unsafe {
        libc::ioctl(
            pidfd.as_fd().as_raw_fd(),
            PIDFD_GET_INFO as libc::Ioctl,
            &raw mut info,
        )
    };
    // Only the returned mask says whether the field is set.
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

/// Whether a process is a child of this one, running or zombie.
pub(crate) fn is_own_child(pid: i32) -> bool {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let Some(pid) = positive(pid) else {
        return false;
    };
    let query = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(pid), query).is_ok()
}

/// Reaps a child of this process that has ended.
pub(crate) fn reap(pid: i32) {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    if let Some(pid) = positive(pid) {
        let reap = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        // The child has ended. The only possible failure is that it was reaped before.
        let _ = waitid(WaitId::Pid(pid), reap);
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_is_identified_by_its_start_and_a_pidfd_reports_its_outcome() {
        let mut child = Command::new("sh")
            .args(["-c", "read line; exit 7"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("sh starts");
        let pid = child.id() as i32;
        let stat = |pid| stat(pid).expect("the file can be read");
        let own = stat(std::process::id() as i32).expect("we live");
        let its = stat(pid).expect("it lives");
        assert!(its.start_ticks >= own.start_ticks);
        assert!(is_own_child(pid) && !is_own_child(1));
        let uid = rustix::process::getuid().as_raw();
        assert_eq!(users(pid).expect("the file can be read"), Some([uid, uid]));
        let pidfd = pidfd_open(pid).expect("it lives");
        assert_eq!(pid_of(&pidfd).expect("it is a pidfd"), Some(pid));
        assert_eq!(outcome_of(&pidfd), None);
        child.wait().expect("it is ours");
        assert_eq!(pid_of(&pidfd).expect("it is a pidfd"), None);
        assert_eq!(stat(pid), None);
        if let Some(outcome) = outcome_of(&pidfd) {
            assert_eq!(outcome, Outcome::Exited(7));
        }
        assert!(!its.has_ended());
        let file = fs::File::open("/dev/null").expect("it is there");
        assert!(is_pidfd(&pidfd) && !is_pidfd(&file));
        assert!(pid_of(&file).is_err() && outcome_of(&file).is_none());
    }

    #[test]
    fn a_process_whose_first_thread_has_ended_has_not() {
        let line = |state: char, threads: u32| {
            let mut fields = vec![state.to_string()];
            fields.extend((4..20).map(|_| "0".to_owned()));
            fields.extend([threads.to_string(), "0".into(), "77".into(), "0".into()]);
            format!("1 (a) b)) {}", fields.join(" "))
        };
        for (state, threads, has_ended) in [('S', 1, false), ('Z', 2, false), ('Z', 1, true)] {
            let stat = parse_stat(line(state, threads).as_bytes()).expect("it is complete");
            assert_eq!((stat.has_ended(), stat.start_ticks), (has_ended, 77));
        }
    }
}
