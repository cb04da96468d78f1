//! A cgroup for one test, and processes in it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use exitring::{Cgroup, CgroupLeaf, CgroupLimits, CgroupPool};

use crate::common::{sh, until};

/// A cgroup below that of this process. Its drop kills what runs in it, and removes it.
pub struct TestGroup {
    pub path: PathBuf,
}

impl TestGroup {
    /// Makes the group. `None`, with a message, where that is not permitted.
    pub fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("exitring-test-{}-{number}", std::process::id());
        let made = Cgroup::find().map_err(|error| error.to_string());
        let made = made.and_then(|group| {
            let path = group.path().join(name);
            fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            Ok(Self { path })
        });
        made.inspect_err(|why| eprintln!("not tested: no cgroup can be made: {why}"))
            .ok()
    }

    /// Makes a group whose controllers can be enabled. `None`, with a message, where there are none.
    pub fn with_controllers() -> Option<Self> {
        let group = Self::new()?;
        let parent = group.path.parent().expect("it is below another group");
        match fs::write(parent.join("cgroup.subtree_control"), "+memory +pids +cpu") {
            Ok(()) => Some(group),
            Err(error) => {
                eprintln!("not tested: no controllers can be enabled: {error}");
                None
            }
        }
    }

    pub fn cgroup(&self) -> Cgroup {
        Cgroup::at(&self.path).expect("it was made")
    }

    pub fn pool(&self) -> CgroupPool {
        let pool = self.cgroup().pool(&CgroupLimits::new());
        pool.expect("the group can be written")
    }

    pub fn write(&self, file: &str, value: &str) {
        fs::write(self.path.join(file), value).expect("the group can be written");
    }

    /// The names of the sub-groups.
    pub fn sub_groups(&self) -> Vec<String> {
        sub_groups(&self.path)
    }
}

impl Drop for TestGroup {
    fn drop(&mut self) {
        let _ = fs::write(self.path.join("cgroup.kill"), "1");
        let _ = fs::write(self.path.join("cgroup.freeze"), "0");
        let gone = (0..10_000).any(|_| {
            remove_tree(&self.path);
            std::thread::sleep(std::time::Duration::from_millis(1));
            !self.path.exists()
        });
        assert!(
            gone || std::thread::panicking(),
            "{} stays",
            self.path.display()
        );
    }
}

fn remove_tree(group: &Path) {
    for name in sub_groups(group) {
        remove_tree(&group.join(name));
    }
    let _ = fs::remove_dir(group);
}

/// The names of the sub-groups of a group.
pub fn sub_groups(group: &Path) -> Vec<String> {
    let entries = fs::read_dir(group).into_iter().flatten().flatten();
    let groups = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    groups
        .map(|entry| entry.file_name().into_string().expect("the names are text"))
        .collect()
}

/// Starts a shell in a group, and then the script in the shell.
pub fn run_in(group: &Path, script: &str) -> Child {
    run_command_in(group, &mut sh(&format!("read go; {script}")))
}

/// Starts a program in a group that reads a line before it does anything.
pub fn run_command_in(group: &Path, command: &mut Command) -> Child {
    let mut child = command.stdin(Stdio::piped()).spawn().expect("it starts");
    let mut procs = fs::OpenOptions::new();
    let procs = procs.write(true).custom_flags(libc::O_CLOEXEC);
    let mut procs = procs.open(group.join("cgroup.procs")).expect("it exists");
    write!(procs, "{}", child.id()).expect("a process can enter the group");
    let mut stdin = child.stdin.take().expect("it is a pipe");
    stdin.write_all(b"go\n").expect("the child reads");
    child
}

/// Starts a shell in a leaf, and waits for its end.
pub fn run_to_end(leaf: &CgroupLeaf, script: &str) {
    let status = run_in(&leaf.path(), script).wait().expect("it is a child");
    assert!(status.success(), "{script}: {status}");
}

/// The pids in a group, without those in its sub-groups.
pub fn processes(group: &Path) -> Vec<i32> {
    let text = fs::read_to_string(group.join("cgroup.procs")).expect("the group exists");
    text.lines()
        .map(|pid| pid.parse().expect("a pid"))
        .collect()
}

#[track_caller]
pub fn until_empty(leaf: &CgroupLeaf) {
    until("the leaf is empty", || !leaf.is_populated().unwrap());
}
