//! Killing all processes of a leaf, those in the groups below it included.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::process::{Signal, kill_process, pidfd_send_signal};

use super::error::CgroupError;
use super::files;
use super::report::each_process;
use crate::Pid;
use crate::error::{NoDescriptors, SystemError};
use crate::sys::pidfd_open;

/// How often the processes are listed and signalled at most. Only a group that forks faster than
/// this thread can signal needs more, and only where it cannot be frozen.
const ROUNDS_MAX: usize = 1000;
/// After this many rounds without a new process, each process has the signal. Those that remain are
/// in an uninterruptible wait.
const ROUNDS_WITHOUT_NEW: usize = 20;
const PAUSE: Duration = Duration::from_millis(1);
/// How many processes a round signals at most. The next round signals further ones.
const PROCESSES_MAX: usize = 1 << 16;
/// How many pidfds are open at a time.
const PIDFDS: usize = 32;

/// Sends `SIGKILL` to all processes of the group and of the groups below it.
///
/// `cgroup.kill` (Linux 5.14) does this in the kernel, and no fork escapes it.
pub(super) fn kill_group(dir: impl AsFd, group: &Path, path: &Path) -> Result<(), CgroupError> {
    match files::write(dir.as_fd(), &group.join("cgroup.kill"), "1") {
        Ok(()) => Ok(()),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => kill_each(dir, group, path),
        Err(source) => Err(CgroupError::from_call("write", path, source)),
    }
}

/// The same before Linux 5.14: freezes the group, so that nothing in it forks, signals each
/// process, and unfreezes the group. A frozen process dies of `SIGKILL` all the same.
pub(super) fn kill_each(dir: impl AsFd, group: &Path, path: &Path) -> Result<(), CgroupError> {
    let error = |call| move |source| CgroupError::from_call(call, path, source);
    files::Events::read(dir.as_fd(), group).map_err(error("read"))?;
    // The file stays open, so that a shortage of descriptors cannot prevent the unfreezing.
    let freezer = match files::open(dir.as_fd(), &group.join("cgroup.freeze"), OFlags::WRONLY) {
        Ok(freezer) => Some(freezer),
        // Before Linux 5.2.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => None,
        Err(source) => return Err(error("open")(source)),
    };
    set_frozen(&freezer, "1").map_err(error("write"))?;
    let result = kill_in_rounds(dir, group, path);
    let unfrozen = set_frozen(&freezer, "0");
    result?;
    match unfrozen {
        // Its processes have ended, and another program has removed the group.
        Err(error) if files::is_gone(&error) => Ok(()),
        unfrozen => unfrozen.map_err(error("write")),
    }
}

fn set_frozen(freezer: &Option<OwnedFd>, value: &str) -> io::Result<()> {
    match freezer {
        Some(file) => Ok(rustix::io::write(file, value.as_bytes()).map(drop)?),
        None => Ok(()),
    }
}

fn kill_in_rounds(dir: impl AsFd, group: &Path, path: &Path) -> Result<(), CgroupError> {
    let mut before = BTreeSet::new();
    let mut without_new = 0;
    for _ in 0..ROUNDS_MAX {
        let listed = list(dir.as_fd(), group);
        let listed = listed.map_err(|source| CgroupError::from_call("read", path, source))?;
        if listed.is_empty() {
            return Ok(());
        }
        let signalled = signal_all(dir.as_fd(), group, &listed);
        without_new = match listed.is_subset(&before) {
            true => without_new + 1,
            false => 0,
        };
        if without_new == ROUNDS_WITHOUT_NEW {
            return signalled.map_err(|source| {
                let none = NoDescriptors::from_errno(source.raw_os_error().unwrap_or(0));
                none.map_or_else(
                    || {
                        CgroupError::System(SystemError {
                            call: "kill",
                            source,
                        })
                    },
                    CgroupError::NoDescriptors,
                )
            });
        }
        before = listed;
        thread::sleep(PAUSE);
    }
    Err(CgroupError::StillForking {
        path: path.to_owned(),
    })
}

fn list(dir: impl AsFd, group: &Path) -> io::Result<BTreeSet<i32>> {
    let mut listed = BTreeSet::new();
    each_process(dir, group, &mut |pid| {
        // A process of another pid namespace is shown as 0, and cannot be signalled.
        if pid > 0 && listed.len() < PROCESSES_MAX {
            listed.insert(pid);
        }
    })?;
    Ok(listed)
}

/// Signals each process that is in the group. Returns the last error.
///
/// A listed process may be reaped, and its number reused, before it is signalled. So its pidfd is
/// opened first, and the group is listed again afterwards. If the process behind the pidfd was not
/// reaped when the signal was sent, it had the number all the time, and so it was the listed one.
fn signal_all(dir: impl AsFd, group: &Path, pids: &BTreeSet<i32>) -> io::Result<()> {
    let mut result = Ok(());
    let mut keep_error = |sent: io::Result<()>| match sent {
        // It has ended.
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
        Err(error) => result = Err(error),
        Ok(()) => {}
    };
    let pids: Vec<_> = pids.iter().filter_map(|&pid| Pid::new(pid).ok()).collect();
    for batch in pids.chunks(PIDFDS) {
        let mut opened = Vec::new();
        for &pid in batch {
            match pidfd_open(pid) {
                Ok(pidfd) => opened.push((pid, pidfd)),
                // Pidfds are denied. The group is frozen, so the number is reused only if another
                // program kills the process in this very moment.
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                    keep_error(kill_process(pid.as_rustix(), Signal::KILL).map_err(Into::into));
                }
                Err(error) => keep_error(Err(error)),
            }
        }
        if opened.is_empty() {
            continue;
        }
        let still_listed = list(dir.as_fd(), group)?;
        for (pid, pidfd) in opened {
            if still_listed.contains(&pid.as_raw()) {
                keep_error(pidfd_send_signal(&pidfd, Signal::KILL).map_err(Into::into));
            }
        }
    }
    result
}
