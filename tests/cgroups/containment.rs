//! All descendants of a child are in its leaf, and are killed there.

use crate::common::*;
use crate::test_group::*;

#[test]
fn daemons_of_a_child_remain_in_its_leaf_and_are_killed() {
    let Some(group) = TestGroup::new() else {
        return;
    };
    let pool = group.pool();
    let (leaf, other) = (pool.acquire().unwrap(), pool.acquire().unwrap());
    assert!(!leaf.is_populated().unwrap());
    let mut bystander = run_in(&other.path(), "exec sleep 1000");
    // In a session of their own, and with a parent that has ended.
    run_to_end(&leaf, "setsid sh -c 'sleep 1000 & sleep 1000 &' & wait");
    assert!(leaf.is_populated().unwrap());
    let pids = processes(&leaf.path());
    assert_eq!(pids.len(), 2, "{pids:?}");
    leaf.kill().unwrap();
    until_empty(&leaf);
    assert_eq!(processes(&leaf.path()), []);
    // No other group is affected, and an empty leaf can be killed, too.
    assert_eq!(processes(&other.path()), [bystander.id() as i32]);
    leaf.kill().unwrap();
    other.kill().unwrap();
    let status = bystander.wait().unwrap();
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&status),
        Some(libc::SIGKILL)
    );
}

#[test]
fn processes_in_groups_that_a_child_made_are_killed() {
    let Some(group) = TestGroup::new() else {
        return;
    };
    let pool = group.pool();
    let leaf = pool.acquire().unwrap();
    let path = leaf.path();
    let script = "mkdir -p $LEAF/a/b && echo $$ >$LEAF/a/b/cgroup.procs && sleep 1000 & sleep 1000";
    let mut command = sh(&format!("read go; {script}"));
    let mut child = run_command_in(&path, command.env("LEAF", &path));
    until("a process is in each group", || {
        path.join("a/b").exists() && !processes(&path.join("a/b")).is_empty()
    });
    assert!(leaf.is_populated().unwrap());
    leaf.kill().unwrap();
    child.wait().unwrap();
    until_empty(&leaf);
    // The next child gets an empty group.
    drop(leaf);
    let next = pool.acquire().unwrap();
    assert_eq!(sub_groups(&next.path()), [] as [&str; 0]);
    assert_eq!(sub_groups(&pool.path()).len(), pool.leaves());
}

/// The shells fork as fast as they can, so there are always processes that were forked after a list
/// was read.
#[test]
fn processes_that_fork_all_the_time_are_killed() {
    let Some(group) = TestGroup::new() else {
        return;
    };
    let pool = group.pool();
    let leaf = pool.acquire().unwrap();
    let mut shells: Vec<_> = (0..4)
        .map(|_| {
            run_in(
                &leaf.path(),
                "while :; do sleep 1000 & sh -c 'sleep 1000 &'; done",
            )
        })
        .collect();
    until("they have forked", || processes(&leaf.path()).len() > 100);
    leaf.kill().unwrap();
    for shell in &mut shells {
        shell.wait().unwrap();
    }
    until_empty(&leaf);
}
