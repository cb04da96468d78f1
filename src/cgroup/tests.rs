//! What the crate's own code calls: reports, descriptors of leaves, errors of `clone3`, the way to
//! kill before Linux 5.14, and injected faults.

#![allow(unsafe_code)]

mod clone;
mod faults;
mod kill;
mod messages;
mod report;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::*;

/// A cgroup below that of this process, which is killed and removed when it is dropped.
struct TestGroup(PathBuf);

impl TestGroup {
    /// `None`, with a message, where no group can be made.
    fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("exitring-unit-{}-{number}", std::process::id());
        let made = Cgroup::find().map_err(|error| error.to_string());
        let made = made.and_then(|group| {
            let path = group.path().join(name);
            fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            Ok(Self(path))
        });
        made.inspect_err(|why| eprintln!("not tested: no cgroup can be made: {why}"))
            .ok()
    }

    /// `None`, with a message, where no controllers can be enabled in the group.
    fn with_controllers() -> Option<Self> {
        let group = Self::new()?;
        let parent = group.0.parent().expect("it is below another group");
        let enabled = fs::write(parent.join("cgroup.subtree_control"), "+memory +pids");
        enabled
            .inspect_err(|why| eprintln!("not tested: no controllers can be enabled: {why}"))
            .is_ok()
            .then_some(group)
    }

    fn cgroup(&self) -> Cgroup {
        Cgroup::at(&self.0).expect("it was made")
    }

    fn pool(&self) -> CgroupPool {
        let pool = self.cgroup().pool(&CgroupLimits::new());
        pool.expect("the group can be written")
    }
}

impl Drop for TestGroup {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join("cgroup.kill"), "1");
        let _ = fs::write(self.0.join("cgroup.freeze"), "0");
        let gone = (0..10_000).any(|_| {
            for pool in tree::sub_groups(rustix::fs::CWD, &self.0, 100).unwrap_or_default() {
                let _ = tree::remove(rustix::fs::CWD, &pool);
            }
            let _ = tree::remove(rustix::fs::CWD, &self.0);
            thread::sleep(Duration::from_millis(1));
            !self.0.exists()
        });
        assert!(gone || thread::panicking(), "{} stays", self.0.display());
    }
}

#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(30), "timeout: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Starts a shell in a group, and then the script in the shell. The script has the path of the
/// group in `$GROUP`.
fn run_in(group: &Path, script: &str) -> Child {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("read go; {script}")]);
    command.stdin(Stdio::piped()).env("GROUP", group);
    let mut child = command.spawn().expect("sh starts");
    let pid = child.id().to_string();
    fs::write(group.join("cgroup.procs"), pid).expect("a process can enter the group");
    let mut stdin = child.stdin.take().expect("it is a pipe");
    stdin.write_all(b"go\n").expect("the shell reads");
    child
}

#[track_caller]
fn run_to_end(group: &Path, script: &str) {
    let status = run_in(group, script).wait().expect("it is a child");
    assert!(status.success(), "{script}: {status}");
}

#[track_caller]
fn until_empty(leaf: &CgroupLeaf) {
    until("the leaf is empty", || {
        !leaf.is_populated().expect("it exists")
    });
}
