//! The groups of programs that were killed, and of several programs in the same group.

use std::fs;

use exitring::{Cgroup, CgroupLimits};

use crate::common::*;
use crate::test_group::*;

/// The variable with the group in which the other process makes a pool.
const GROUP: &str = "EXITRING_TEST_CGROUP";

#[test]
fn the_groups_of_a_killed_program_are_removed_by_the_next() {
    if let Some(group) = std::env::var_os(GROUP) {
        let pool = Cgroup::at(group)
            .unwrap()
            .pool(&CgroupLimits::new())
            .unwrap();
        pool.prepare(5).unwrap();
        let leaf = pool.acquire().unwrap();
        fs::create_dir_all(leaf.path().join("a/b")).unwrap();
        if std::env::var_os("EXITRING_TEST_LEFTOVER").is_some() {
            // It does not hold the pipes of this process open.
            run_to_end(&leaf, "sleep 1000 >/dev/null 2>&1 &");
        }
        // Ends without any destructor.
        exit_now(0);
    }
    let Some(group) = TestGroup::new() else {
        return;
    };
    let test = "abandoned::the_groups_of_a_killed_program_are_removed_by_the_next";
    let run = |leftover: bool| {
        let output = output_of_test(test, |command| {
            command.env(GROUP, &group.path);
            if leftover {
                command.env("EXITRING_TEST_LEFTOVER", "1");
            }
        });
        assert!(output.status.success(), "{output:?}");
        let left = group.sub_groups();
        assert_eq!(left.len(), 1, "{left:?}");
        group.path.join(&left[0])
    };
    let abandoned = run(false);
    assert_eq!(sub_groups(&abandoned).len(), 5);
    drop(group.pool());
    assert_eq!(group.sub_groups(), [] as [&str; 0]);

    // A leftover process keeps its leaf, and is not killed.
    let abandoned = run(true);
    let pool = group.pool();
    assert!(abandoned.exists());
    assert_eq!(sub_groups(&abandoned).len(), 1);
    fs::write(abandoned.join("cgroup.kill"), "1").unwrap();
    until("it is removed", || {
        drop(group.pool());
        !abandoned.exists()
    });
    drop(pool);
    assert_eq!(group.sub_groups(), [] as [&str; 0]);
}

#[test]
fn pools_in_the_same_group_do_not_affect_each_other() {
    let Some(group) = TestGroup::new() else {
        return;
    };
    let pools: Vec<_> = (0..5).map(|_| group.pool()).collect();
    for pool in &pools {
        pool.prepare(3).unwrap();
    }
    assert_eq!(group.sub_groups().len(), 5);
    for pool in &pools {
        assert_eq!(sub_groups(&pool.path()).len(), 3);
    }
}

/// A program with the same pid, in another pid namespace or before this one, has made a pool. Runs
/// in its own process, which has made none.
#[test]
fn names_of_a_process_with_the_same_pid_are_skipped() {
    if !in_own_process() {
        let test = "abandoned::names_of_a_process_with_the_same_pid_are_skipped";
        return run_in_own_process(test, |_| ());
    }
    let Some(group) = TestGroup::new() else {
        return;
    };
    let other = |number: u32| {
        group
            .path
            .join(format!("exitring-{}-{number}", std::process::id()))
    };
    let locked: Vec<_> = (0..3)
        .map(|number| {
            fs::create_dir(other(number)).unwrap();
            fs::create_dir(other(number).join("0")).unwrap();
            let dir = fs::File::open(other(number)).unwrap();
            rustix::fs::flock(&dir, rustix::fs::FlockOperation::LockExclusive).unwrap();
            dir
        })
        .collect();
    let pool = group.pool();
    assert_eq!(pool.path(), other(3));
    for number in 0..3 {
        assert!(other(number).join("0").exists(), "it is in use");
    }
    drop(locked);
    let second = group.pool();
    assert_eq!(second.path(), other(4));
    assert_eq!(group.sub_groups().len(), 2);
}
