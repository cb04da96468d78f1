//! Limits of memory, processes and CPU time, where the controllers are available.

use std::fs;
use std::os::unix::process::ExitStatusExt;

use exitring::{Cgroup, CgroupError, CgroupLimits};

use crate::common::*;
use crate::test_group::*;

/// A shell that uses a number of bytes at a time.
fn use_memory(bytes: usize) -> String {
    format!("x=$(head -c {bytes} /dev/zero | tr '\\0' x)")
}

#[test]
fn a_child_that_needs_more_memory_than_its_limit_is_killed() {
    let Some(group) = TestGroup::with_controllers() else {
        return;
    };
    let limits = CgroupLimits::new().memory(32 << 20);
    let pool = group.cgroup().pool(&limits).unwrap();
    let leaf = pool.acquire().unwrap();
    let file = |name| fs::read_to_string(leaf.path().join(name));
    assert_eq!(file("memory.max").unwrap().trim(), (32 << 20).to_string());
    match file("memory.swap.max") {
        Ok(value) => assert_eq!(value.trim(), "0"),
        Err(error) => eprintln!("not tested: there is no memory.swap.max: {error}"),
    }
    let status = run_in(&leaf.path(), &use_memory(128 << 20)).wait().unwrap();
    assert_eq!(status.signal(), Some(libc::SIGKILL), "{status:?}");
    // Within the limit it runs.
    let other = pool.acquire().unwrap();
    run_to_end(&other, &use_memory(1 << 20));
}

#[test]
fn a_leaf_whose_memory_is_limited_serves_one_child_only() {
    let Some(group) = TestGroup::with_controllers() else {
        return;
    };
    for limits in [
        CgroupLimits::new().memory(1 << 30),
        CgroupLimits::new().peak_memory(true),
    ] {
        let pool = group.cgroup().pool(&limits).unwrap();
        let mut seen = std::collections::HashSet::new();
        for _ in 0..5 {
            let leaf = pool.acquire().unwrap();
            assert!(seen.insert(leaf.path()), "{leaf:?}");
            run_to_end(&leaf, "true");
            until_empty(&leaf);
        }
        // One with leftovers is removed when it is empty.
        let leaf = pool.acquire().unwrap();
        assert!(seen.insert(leaf.path()));
        run_to_end(&leaf, "sleep 1000 &");
        leaf.kill().unwrap();
        until_empty(&leaf);
        drop(leaf);
        assert!(!seen.contains(&pool.acquire().unwrap().path()));
        until("all are removed", || {
            drop(pool.acquire().unwrap());
            pool.leaves() == 0
        });
        assert_eq!(sub_groups(&pool.path()), [] as [&str; 0]);
        drop(pool);
        assert_eq!(group.sub_groups(), [] as [&str; 0]);
    }
}

#[test]
fn a_child_cannot_fork_beyond_its_limit_of_processes() {
    let Some(group) = TestGroup::with_controllers() else {
        return;
    };
    let limits = CgroupLimits::new().processes(5);
    let pool = group.cgroup().pool(&limits).unwrap();
    let (leaf, other) = (pool.acquire().unwrap(), pool.acquire().unwrap());
    let script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done 2>/dev/null";
    for leaf in [&leaf, &other] {
        let _ = run_in(&leaf.path(), script).wait().unwrap();
        let count = processes(&leaf.path()).len();
        assert!(count <= 5, "{count} processes");
        let events = fs::read_to_string(leaf.path().join("pids.events")).unwrap();
        assert!(!events.contains("max 0"), "the limit was reached: {events}");
        leaf.kill().unwrap();
    }
}

#[test]
fn cpu_time_is_limited_to_a_fraction_of_a_cpu() {
    let Some(group) = TestGroup::with_controllers() else {
        return;
    };
    for (cpus, expected) in [
        (0.25, "25000 100000"),
        (1.5, "150000 100000"),
        (64.0, "6400000 100000"),
    ] {
        let pool = group
            .cgroup()
            .pool(&CgroupLimits::new().cpus(cpus))
            .unwrap();
        let leaf = pool.acquire().unwrap();
        let value = fs::read_to_string(leaf.path().join("cpu.max")).unwrap();
        assert_eq!(value.trim(), expected);
    }
    // A child that computes all the time is throttled.
    let pool = group
        .cgroup()
        .pool(&CgroupLimits::new().cpus(0.05))
        .unwrap();
    let leaf = pool.acquire().unwrap();
    let mut child = run_in(&leaf.path(), "while :; do :; done");
    until("it is throttled", || {
        let stat = fs::read_to_string(leaf.path().join("cpu.stat")).unwrap();
        stat.lines()
            .any(|line| line.starts_with("nr_throttled") && !line.ends_with(" 0"))
    });
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_value_that_the_kernel_refuses_is_named_before_anything_runs() {
    let Some(group) = TestGroup::with_controllers() else {
        return;
    };
    for (expected, limits) in [
        ("pids.max", CgroupLimits::new().processes(u64::MAX)),
        ("cpu.max", CgroupLimits::new().cpus(0.001)),
        ("cpu.max", CgroupLimits::new().cpus(1e300)),
    ] {
        match group.cgroup().pool(&limits) {
            Err(error @ CgroupError::LimitRefused { .. }) => {
                assert!(error.to_string().contains(expected), "{error}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(group.sub_groups(), [] as [&str; 0]);
    }
}

#[test]
fn limits_in_a_group_with_processes_are_refused_until_it_has_none() {
    let Some(group) = TestGroup::with_controllers() else {
        return;
    };
    let mut child = run_in(&group.path, "exec sleep 1000");
    let limits = CgroupLimits::new().processes(5);
    match group.cgroup().pool(&limits) {
        Err(
            error @ CgroupError::HasProcesses {
                processes: 1,
                includes_self: false,
                ..
            },
        ) => {
            assert!(error.to_string().contains("Cgroup::at"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    // Without limits no controller is needed.
    drop(group.cgroup().pool(&CgroupLimits::new()).unwrap());
    child.kill().unwrap();
    child.wait().unwrap();
    until("the group is empty", || {
        group.cgroup().pool(&limits).is_ok()
    });
}

/// The kernel accepts the controller pids for a group with processes, which makes it the root of a
/// threaded subtree.
#[test]
fn a_group_in_which_no_process_can_start_is_refused() {
    let Some(group) = TestGroup::with_controllers() else {
        return;
    };
    let mut child = run_in(&group.path, "exec sleep 1000");
    group.write("cgroup.subtree_control", "+pids");
    for limits in [CgroupLimits::new(), CgroupLimits::new().processes(5)] {
        match group.cgroup().pool(&limits) {
            Err(error @ CgroupError::Threaded { .. }) => {
                assert!(error.to_string().contains("cgroup.type"), "{error}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(group.sub_groups(), [] as [&str; 0]);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    until("the group is empty", || {
        group.cgroup().pool(&CgroupLimits::new()).is_ok()
    });
}

/// Runs in its own process, which moves itself.
#[test]
fn a_process_that_is_in_the_group_enters_a_leaf_for_limits() {
    if !in_own_process() {
        let test = "limits::a_process_that_is_in_the_group_enters_a_leaf_for_limits";
        return run_in_own_process(test, |_| ());
    }
    let Some(group) = TestGroup::with_controllers() else {
        return;
    };
    let own = Cgroup::find().unwrap();
    group.write("cgroup.procs", "0");
    let found = Cgroup::find().unwrap();
    let limits = CgroupLimits::new().memory(1 << 30).processes(50).cpus(2.0);
    match found.pool(&limits) {
        Err(
            error @ CgroupError::HasProcesses {
                includes_self: true,
                ..
            },
        ) => {
            assert!(error.to_string().contains("enter_leaf"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    found.enter_leaf().unwrap();
    let pool = found.pool(&limits).unwrap();
    let leaf = pool.acquire().unwrap();
    run_to_end(&leaf, "true");
    until_empty(&leaf);
    // No process may start in a leaf that has controllers enabled for its sub-groups.
    fs::write(own.path().join("cgroup.procs"), "0").unwrap();
}
