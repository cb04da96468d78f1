//! The way to kill where `cgroup.kill` is missing, which these tests call directly.

use super::*;
use crate::cgroup::kill::kill_each;
use crate::faults::{Plan, set_plan};
use std::sync::Arc;

/// Processes that fork all the time, one of them in a group of its own.
fn forking(leaf: &CgroupLeaf) -> Vec<Child> {
    let forks = "while :; do sleep 1000 & sh -c 'sleep 1000 &'; done";
    let nested = format!("mkdir $GROUP/a; echo $$ >$GROUP/a/cgroup.procs; {forks}");
    let shells = [&nested, forks, forks].map(|script| run_in(&leaf.path(), script));
    until("they have forked", || leaf.report().leftover_count() > 60);
    shells.into()
}

fn kill_each_in(leaf: &CgroupLeaf) -> Result<(), CgroupError> {
    kill_each(rustix::fs::CWD, &leaf.path(), &leaf.path())
}

fn is_frozen(leaf: &CgroupLeaf) -> bool {
    let freeze = fs::read_to_string(leaf.path().join("cgroup.freeze"));
    freeze.is_ok_and(|freeze| freeze.trim() != "0")
}

fn fail(call: &'static str, errno: i32) {
    set_plan(Some(Arc::new(Plan {
        call,
        errno,
        after: AtomicU32::new(0),
        times: AtomicU32::new(u32::MAX),
        failures: AtomicU32::new(0),
    })));
}

#[test]
fn each_process_is_killed_however_fast_they_fork() {
    let Some(group) = TestGroup::new() else {
        return;
    };
    let pool = group.pool();
    // By pidfds, and without them.
    for denied in [None, Some(libc::ENOSYS), Some(libc::EPERM)] {
        let leaf = pool.acquire().expect("a leaf");
        let shells = forking(&leaf);
        if let Some(errno) = denied {
            fail("pidfd_open", errno);
        }
        let killed = kill_each_in(&leaf);
        set_plan(None);
        killed.expect("each process can be signalled");
        for mut shell in shells {
            shell.wait().expect("it is a child");
        }
        until_empty(&leaf);
        assert!(!is_frozen(&leaf));
    }
}

#[test]
fn an_empty_or_removed_group_can_be_killed() {
    let Some(group) = TestGroup::new() else {
        return;
    };
    let pool = group.pool();
    let leaf = pool.acquire().expect("a leaf");
    kill_each_in(&leaf).expect("there is nothing to kill");
    assert!(!is_frozen(&leaf));
    fs::remove_dir(leaf.path()).expect("it is empty");
    let killed = kill_each_in(&leaf);
    assert!(
        matches!(killed, Err(CgroupError::Missing { .. })),
        "{killed:?}"
    );
}

#[test]
fn without_pidfds_for_lack_of_descriptors_the_error_says_so_and_nothing_stays_frozen() {
    let Some(group) = TestGroup::new() else {
        return;
    };
    let pool = group.pool();
    let leaf = pool.acquire().expect("a leaf");
    let mut child = run_in(&leaf.path(), "exec sleep 1000");
    fail("pidfd_open", libc::EMFILE);
    let killed = kill_each_in(&leaf);
    set_plan(None);
    assert!(
        matches!(killed, Err(CgroupError::NoDescriptors(_))),
        "{killed:?}"
    );
    assert!(!is_frozen(&leaf));
    kill_each_in(&leaf).expect("there are descriptors again");
    child.wait().expect("it is a child");
    until_empty(&leaf);
}
