//! What is left at the end of a soak: nothing may be.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use exitring::Pid;

use crate::measure::process::{children, open_descriptors};
use crate::types::run::SoakLeft;

/// How long killed processes may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(30);

/// Waits until this process has no children and no cgroups of them, for some time at most. Returns
/// what is left. This process is the subreaper of the children, so their descendants would be
/// children of it.
pub(super) fn wait_for_none(cgroups: Option<&Path>, descriptors: u64) -> Result<SoakLeft> {
    let start = Instant::now();
    loop {
        let children = children()?;
        let zombies = children.iter().filter(|(_, ended)| *ended).count() as u64;
        let left = SoakLeft {
            processes: children.len() as u64 - zombies,
            zombies,
            cgroups: cgroups.map_or(0, count_directories),
            descriptors: open_descriptors(None)?.saturating_sub(descriptors),
        };
        if left.count() == 0 || start.elapsed() > END_TIMEOUT {
            return Ok(left);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The number of cgroups from this one downwards; 0 if it does not exist.
fn count_directories(group: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(group) else {
        return u64::from(group.exists());
    };
    let directories = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    1 + directories
        .map(|entry| count_directories(&entry.path()))
        .sum::<u64>()
}

/// Reaps a process that was killed. Returns whether it had that signal, or was reaped elsewhere.
pub(super) fn reap_killed(pid: Pid) -> bool {
    let start = Instant::now();
    let mut status = 0;
    while start.elapsed() < END_TIMEOUT {
        // SAFETY: the pointer is to a live integer.
        match unsafe { libc::waitpid(pid.as_raw(), &raw mut status, libc::WNOHANG) } {
            0 => std::thread::sleep(Duration::from_micros(100)),
            -1 => return true,
            _ => return libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL,
        }
    }
    false
}

/// Whether all writing ends of a pipe are closed within some time.
pub(super) fn is_closed_soon(pipe: &impl std::os::fd::AsRawFd) -> bool {
    let mut poll = libc::pollfd {
        fd: pipe.as_raw_fd(),
        events: 0,
        revents: 0,
    };
    let timeout = END_TIMEOUT.as_millis() as libc::c_int;
    // SAFETY: the pointer is to one live pollfd.
    let ready = unsafe { libc::poll(&raw mut poll, 1, timeout) };
    ready == 1 && poll.revents & libc::POLLHUP != 0
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_pipe_is_closed_when_its_last_writer_ends() {
        let mut child = Command::new("sleep");
        let mut child = child
            .arg("1000")
            .stdout(Stdio::piped())
            .spawn()
            .expect("sleep starts");
        let pipe = child.stdout.take().expect("it is piped");
        let pid = Pid::try_from(child.id()).expect("a pid");
        let state = || children().expect("there is /proc").into_iter();
        assert!(state().any(|state| state == (pid, false)), "it runs");
        child.kill().expect("it is killed");
        assert!(is_closed_soon(&pipe));
        assert!(reap_killed(pid), "killed");
        assert!(reap_killed(pid), "reaped already");
        assert!(child.wait().is_err(), "reaped already");
        let mut other = Command::new("true").spawn().expect("true starts");
        let pid = Pid::try_from(other.id()).expect("a pid");
        assert!(!reap_killed(pid), "it exited");
        assert!(other.wait().is_err(), "it was reaped");
    }

    #[test]
    fn directories_are_counted_with_those_inside() {
        let directory = tempfile::TempDir::new().expect("it is created");
        fs::create_dir_all(directory.path().join("a/b")).expect("they are created");
        fs::write(directory.path().join("file"), "").expect("it is written");
        assert_eq!(count_directories(directory.path()), 3);
        assert_eq!(count_directories(&directory.path().join("none")), 0);
    }
}
