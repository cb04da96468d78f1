//! A cgroup for one test.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

use crate::service::{eventually, is_root};

/// A cgroup below the root of the hierarchy, as far as this process sees it. Its drop kills what
/// runs in it, and removes it.
pub(crate) struct TestGroup {
    pub(crate) path: PathBuf,
    _mount: TempDir,
}

impl TestGroup {
    /// Makes the group. `None`, with a message, where that is not permitted.
    ///
    /// The hierarchy is mounted for this thread and for the processes that it starts, whether or
    /// not the machine has it mounted elsewhere.
    pub(crate) fn new(test: &str) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if !is_root(test) {
            return None;
        }
        let mount = TempDir::new().expect("a directory can be created");
        if let Err(error) = mount_here(mount.path()) {
            eprintln!("{test} was skipped: no cgroup v2 can be mounted: {error}");
            return None;
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("exitring-serve-{}-{number}", std::process::id());
        let path = mount.path().join(name);
        if let Err(error) = fs::create_dir(&path) {
            eprintln!("{test} was skipped: no cgroup can be made: {error}");
            return None;
        }
        // This fails if the root is the cgroup of a container, which holds processes.
        let _ = fs::write(
            mount.path().join("cgroup.subtree_control"),
            "+memory +pids +cpu",
        );
        Some(Self {
            path,
            _mount: mount,
        })
    }

    pub(crate) fn has_controllers(&self) -> bool {
        let controllers = fs::read_to_string(self.path.join("cgroup.controllers"));
        let controllers = controllers.expect("it is readable");
        let has = |name| controllers.split_whitespace().any(|other| other == name);
        ["memory", "pids", "cpu"].into_iter().all(has)
    }

    /// The groups of pools, and the leaves in them.
    pub(crate) fn leaves(&self) -> Vec<PathBuf> {
        let pools = sub_groups(&self.path).into_iter();
        pools
            .flat_map(|pool| {
                let leaves = sub_groups(&pool);
                std::iter::once(pool).chain(leaves)
            })
            .collect()
    }

    pub(crate) fn kill_all(&self) {
        fs::write(self.path.join("cgroup.kill"), "1").expect("the kernel has it");
        eventually("all have ended", || {
            let events = fs::read_to_string(self.path.join("cgroup.events"));
            events.expect("it is readable").contains("populated 0")
        });
    }
}

impl Drop for TestGroup {
    fn drop(&mut self) {
        let _ = fs::write(self.path.join("cgroup.kill"), "1");
        if !std::thread::panicking() {
            eventually("the test has left nothing", || {
                remove(&self.path);
                !self.path.exists()
            });
        }
        // The mount ends with its namespace: with this thread, and the processes that it started.
        // Until then it would keep the directory from being removed.
        let mount = self.path.parent().expect("it is below the mount");
        let _ = unmount(mount);
    }
}

fn sub_groups(group: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(group).into_iter().flatten().flatten();
    let groups = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    groups.map(|entry| entry.path()).collect()
}

fn remove(group: &Path) {
    for below in sub_groups(group) {
        remove(&below);
    }
    let _ = fs::remove_dir(group);
}

fn mount_here(target: &Path) -> std::io::Result<()> {
    let target = c_string(target);
    let private = libc::MS_REC | libc::MS_PRIVATE;
    let null = std::ptr::null();
    // SAFETY: all pointers are to strings, or null where the call permits it. The namespace of this
    // thread only is changed.
    let results = unsafe {
        [
            libc::unshare(libc::CLONE_NEWNS),
            libc::mount(null, c"/".as_ptr(), null, private, null.cast()),
            libc::mount(
                c"none".as_ptr(),
                target.as_ptr(),
                c"cgroup2".as_ptr(),
                0,
                null.cast(),
            ),
        ]
    };
    match results {
        [0, 0, 0] => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

fn unmount(target: &Path) -> std::io::Result<()> {
    let target = c_string(target);
    // SAFETY: the pointer is to a string.
    match unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

fn c_string(path: &Path) -> std::ffi::CString {
    use std::os::unix::ffi::OsStrExt;
    std::ffi::CString::new(path.as_os_str().as_bytes()).expect("it has no zero byte")
}
