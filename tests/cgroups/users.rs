//! Users to whom a group is, or is not, delegated. The tests start as root, and become nobody in a
//! process of their own.

use std::os::unix::fs::chown;

use exitring::{Cgroup, CgroupError, CgroupLimits};

use crate::common::*;
use crate::test_group::*;

const NOBODY: u32 = 65_534;

/// Whether this process is root, who may become another user.
fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("not tested: it takes root to become another user");
    }
    root
}

fn become_nobody() {
    // SAFETY: no pointers.
    let changed = unsafe {
        libc::setresgid(NOBODY, NOBODY, NOBODY) == 0 && libc::setresuid(NOBODY, NOBODY, NOBODY) == 0
    };
    assert!(changed, "root may become nobody");
}

/// Moves this process into the group.
fn enter(group: &TestGroup) {
    group.write("cgroup.procs", "0");
}

fn delegate(group: &TestGroup) {
    for file in [
        "",
        "cgroup.procs",
        "cgroup.threads",
        "cgroup.subtree_control",
    ] {
        chown(group.path.join(file), Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

/// Runs a part of a test in a forked child, because a user other than root could not clean up.
#[track_caller]
pub fn in_forked_child(part: impl FnOnce()) {
    // SAFETY: the only other thread of this process waits for the end of the test, so it holds no
    // lock.
    let pid = unsafe {
        fork(|| {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(part));
            i32::from(result.is_err())
        })
    };
    assert_eq!(reap(pid), 0, "it failed in the forked child");
}

#[test]
fn a_group_that_is_not_delegated_is_refused_with_the_remedy() {
    if !in_own_process() {
        let test = "users::a_group_that_is_not_delegated_is_refused_with_the_remedy";
        return run_in_own_process(test, |_| ());
    }
    let Some(group) = TestGroup::new().filter(|_| is_root()) else {
        return;
    };
    in_forked_child(|| {
        enter(&group);
        become_nobody();
        let found = Cgroup::find().unwrap();
        assert_eq!(found.path(), group.path);
        for result in [
            found.pool(&CgroupLimits::new()).map(drop),
            found.enter_leaf(),
        ] {
            match result {
                Err(error @ CgroupError::NotDelegated { .. }) => {
                    let message = error.to_string();
                    assert!(
                        message.contains("systemd-run --user --scope -p Delegate=yes"),
                        "{message}"
                    );
                    assert!(!error.is_throttling());
                }
                other => panic!("{other:?}"),
            }
        }
    });
    // The directory alone is not enough: no child could start in a leaf.
    chown(&group.path, Some(NOBODY), Some(NOBODY)).unwrap();
    in_forked_child(|| {
        enter(&group);
        become_nobody();
        match Cgroup::find().unwrap().pool(&CgroupLimits::new()) {
            Err(CgroupError::NotDelegated { path, .. }) => {
                assert_eq!(path, group.path.join("cgroup.procs"));
            }
            other => panic!("{other:?}"),
        }
    });
    assert_eq!(group.sub_groups(), [] as [&str; 0]);
}

#[test]
fn a_delegated_group_serves_its_user() {
    if !in_own_process() {
        let test = "users::a_delegated_group_serves_its_user";
        return run_in_own_process(test, |_| ());
    }
    let Some(group) = TestGroup::new().filter(|_| is_root()) else {
        return;
    };
    delegate(&group);
    in_forked_child(|| {
        enter(&group);
        become_nobody();
        let found = Cgroup::find().unwrap();
        let pool = found.pool(&CgroupLimits::new()).unwrap();
        let leaf = pool.acquire().unwrap();
        run_to_end(&leaf, "sleep 1000 &");
        assert!(leaf.is_populated().unwrap());
        leaf.kill().unwrap();
        until_empty(&leaf);
        drop((leaf, pool));
        assert_eq!(group.sub_groups(), [] as [&str; 0]);
    });
}

#[test]
fn a_process_moves_itself_to_a_leaf_only_if_asked_to() {
    if !in_own_process() {
        let test = "users::a_process_moves_itself_to_a_leaf_only_if_asked_to";
        return run_in_own_process(test, |_| ());
    }
    let Some(group) = TestGroup::new() else {
        return;
    };
    in_forked_child(|| {
        enter(&group);
        let own = std::process::id() as i32;
        let found = Cgroup::find().unwrap();
        drop(found.pool(&CgroupLimits::new()).unwrap());
        assert_eq!(processes(&group.path), [own]);
        // Again, when the group exists.
        for _ in 0..2 {
            found.enter_leaf().unwrap();
            assert_eq!(processes(&group.path), []);
            let leaf = group.path.join("exitring-supervisor");
            assert_eq!(processes(&leaf), [own]);
            assert_eq!(Cgroup::find().unwrap().path(), leaf);
        }
    });
}
