//! Starting a process in a leaf, and the errors of that.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use super::*;

/// `CLONE_INTO_CGROUP` of `<linux/sched.h>`.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `struct clone_args` of `<linux/sched.h>` in its third size.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    before_exit_signal: [u64; 3],
    exit_signal: u64,
    between: [u64; 5],
    cgroup: u64,
}

/// Forks a child in a cgroup, which pauses. `None` if the kernel, or a seccomp profile, has no such
/// call.
fn clone_into(dir: BorrowedFd<'_>) -> Option<io::Result<Pid>> {
    let args = CloneArgs {
        flags: CLONE_INTO_CGROUP,
        exit_signal: libc::SIGCHLD as u64,
        cgroup: dir.as_raw_fd() as u64,
        ..CloneArgs::default()
    };
    // SAFETY: a pointer to a live structure of the given size. The child makes system calls only.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    if pid == 0 {
        loop {
            // SAFETY: no arguments.
            unsafe { libc::pause() };
        }
    }
    if pid < 0 {
        let error = io::Error::last_os_error();
        let lacks = matches!(
            error.raw_os_error(),
            Some(libc::ENOSYS | libc::E2BIG | libc::EINVAL)
        );
        return (!lacks).then_some(Err(error));
    }
    Some(Ok(Pid::try_from(pid as i32).expect("it is positive")))
}

fn reap(pid: Pid) {
    // SAFETY: no pointers but a null one; the process is a child that was not reaped.
    unsafe { libc::waitpid(pid.as_raw(), std::ptr::null_mut(), 0) };
}

use crate::Pid;

#[test]
fn a_process_starts_in_a_leaf_by_both_descriptors() {
    let Some(group) = TestGroup::new() else {
        return;
    };
    let pool = group.pool();
    let leaf = pool.acquire().expect("a leaf");
    let dir = leaf.open_dir().expect("it exists");
    let flags = rustix::io::fcntl_getfd(&dir).expect("it is open");
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    match clone_into(dir.as_fd()) {
        None => eprintln!("not tested: there is no CLONE_INTO_CGROUP"),
        Some(pid) => {
            let pid = pid.expect("the group is delegated");
            assert_eq!(leaf.report().leftover(), [pid]);
            leaf.kill().expect("it can be killed");
            reap(pid);
        }
    }
    let mut child = Command::new("sleep")
        .arg("1000")
        .spawn()
        .expect("it starts");
    let procs = leaf.open_procs().expect("it exists");
    rustix::io::write(&procs, child.id().to_string().as_bytes()).expect("it may enter");
    assert!(leaf.is_populated().expect("it exists"));
    leaf.kill().expect("it can be killed");
    child.wait().expect("it is a child");
    until_empty(&leaf);
}

/// Clones into each kind of group in which no process can start, and maps the errno.
#[test]
fn an_errno_of_clone_tells_why_no_process_can_start_in_the_leaf() {
    let Some(group) = TestGroup::new() else {
        return;
    };
    let pool = group.pool();
    let refused = |leaf: &CgroupLeaf, dir: BorrowedFd<'_>| {
        let errno = match clone_into(dir)? {
            Err(error) => error.raw_os_error().expect("a system call failed"),
            Ok(pid) => panic!("process {pid} was started"),
        };
        Some(leaf.map_clone_error(errno))
    };

    let leaf = pool.acquire().expect("a leaf");
    let path = leaf.path();
    let dir = leaf.open_dir().expect("it exists");
    fs::remove_dir(&path).expect("it is empty");
    if let Some(error) = refused(&leaf, dir.as_fd()) {
        assert!(matches!(error, CgroupError::Missing { .. }), "{error:?}");
    }
    let missing = leaf.open_dir().expect_err("it was removed");
    let error = leaf.map_clone_error(missing.raw_os_error().expect("a system call failed"));
    assert!(matches!(error, CgroupError::Missing { .. }), "{error:?}");
    drop(leaf);

    let leaf = pool.acquire().expect("a leaf");
    let file = fs::File::open("/").expect("the root exists");
    if let Some(error) = refused(&leaf, file.as_fd()) {
        assert!(matches!(error, CgroupError::NotACgroup { .. }), "{error:?}");
    }

    // Beside a threaded group, all other groups of the pool are invalid.
    let threaded = pool.acquire().expect("a leaf");
    fs::write(threaded.path().join("cgroup.type"), "threaded").expect("it is empty");
    let dir = leaf.open_dir().expect("it exists");
    let path = leaf.path();
    if let Some(error) = refused(&leaf, dir.as_fd()) {
        assert!(matches!(error, CgroupError::Threaded { .. }), "{error:?}");
        // It does not serve another child.
        drop(leaf);
        assert!(!path.exists());
    }
}

#[test]
fn no_process_starts_in_a_leaf_with_controllers_for_its_sub_groups() {
    let Some(group) = TestGroup::with_controllers() else {
        return;
    };
    let limits = CgroupLimits::new().peak_memory(true);
    let pool = group
        .cgroup()
        .pool(&limits)
        .expect("memory can be measured");
    let leaf = pool.acquire().expect("a leaf");
    let path = leaf.path();
    fs::write(path.join("cgroup.subtree_control"), "+memory").expect("it is empty");
    let dir = leaf.open_dir().expect("it exists");
    let Some(Err(error)) = clone_into(dir.as_fd()) else {
        panic!("Linux has had CLONE_INTO_CGROUP since 5.7");
    };
    let error = leaf.map_clone_error(error.raw_os_error().expect("a system call failed"));
    assert!(
        matches!(error, CgroupError::ControllersEnabled { .. }),
        "{error:?}"
    );
    drop(leaf);
    assert!(!path.exists());
    let next = pool.acquire().expect("a leaf");
    run_to_end(&next.path(), "true");
}
