//! What is refused, with which cause and remedy.

use std::fs;
use std::path::Path;

use exitring::{Cgroup, CgroupError, CgroupLimits, NoDescriptors};

use crate::common::*;
use crate::test_group::*;

#[test]
fn a_path_that_is_not_a_cgroup_v2_is_refused() {
    for path in ["/proc", "/proc/version"] {
        match Cgroup::at(path) {
            Err(error @ CgroupError::NotACgroup { .. }) => {
                let message = error.to_string();
                assert!(
                    message.contains(path) && message.contains("cgroup2"),
                    "{message}"
                );
            }
            other => panic!("{path}: {other:?}"),
        }
    }
    match Cgroup::at("/nowhere/at/all") {
        Err(CgroupError::Missing { path }) => assert_eq!(path, Path::new("/nowhere/at/all")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_group_of_version_1_is_refused() {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mut mounts = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>());
    let Some(mount) = mounts.find(|fields| fields[2] == "cgroup") else {
        eprintln!("not tested: no hierarchy of version 1 is mounted");
        return;
    };
    match Cgroup::at(mount[1]) {
        Err(error @ CgroupError::Version1 { .. }) => {
            assert!(error.to_string().contains("version 1"), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_group_of_this_process_is_found() {
    match Cgroup::find() {
        Ok(group) => {
            let own = std::process::id() as i32;
            assert!(processes(group.path()).contains(&own), "{group:?}");
            group.controllers().unwrap();
        }
        Err(error) => eprintln!("not tested: {error}"),
    }
}

/// Runs in its own process, which changes its working directory.
#[test]
fn a_relative_path_is_that_of_the_working_directory_at_the_call() {
    if !in_own_process() {
        let test = "errors::a_relative_path_is_that_of_the_working_directory_at_the_call";
        return run_in_own_process(test, |_| ());
    }
    let Some(group) = TestGroup::new() else {
        return;
    };
    std::env::set_current_dir(group.path.parent().unwrap()).unwrap();
    let relative = Cgroup::at(group.path.file_name().unwrap()).unwrap();
    std::env::set_current_dir("/").unwrap();
    assert_eq!(relative.path(), group.path);
    let pool = relative.pool(&CgroupLimits::new()).unwrap();
    assert!(pool.acquire().unwrap().path().starts_with(&group.path));
}

#[test]
fn a_group_that_was_removed_meanwhile_is_reported() {
    let Some(group) = TestGroup::new() else {
        return;
    };
    let cgroup = group.cgroup();
    let pool = group.pool();
    let leaf = pool.acquire().unwrap();
    fs::remove_dir(leaf.path()).unwrap();
    assert!(matches!(
        leaf.is_populated(),
        Err(CgroupError::Missing { .. })
    ));
    assert!(matches!(leaf.kill(), Err(CgroupError::Missing { .. })));
    drop(leaf);
    assert_eq!(pool.leaves(), 0);
    fs::remove_dir(pool.path()).unwrap();
    match pool.acquire() {
        Err(CgroupError::Missing { path }) => assert_eq!(path, pool.path()),
        other => panic!("{other:?}"),
    }
    assert_eq!(pool.leaves(), 0);
    drop((pool, group));
    for result in [
        cgroup.pool(&CgroupLimits::new()).map(drop),
        cgroup.enter_leaf(),
        cgroup.controllers().map(drop),
    ] {
        assert!(
            matches!(result, Err(CgroupError::Missing { .. })),
            "{result:?}"
        );
    }
}

#[test]
fn limits_on_the_number_and_the_depth_of_groups_are_reported() {
    let Some(group) = TestGroup::new() else {
        return;
    };
    let refused = |result| match result {
        Err(error @ CgroupError::TooManyGroups { .. }) => {
            let error: CgroupError = error;
            assert!(error.is_throttling());
            assert!(
                error.to_string().contains("cgroup.max.descendants"),
                "{error}"
            );
        }
        other => panic!("{other:?}"),
    };
    // The pool itself, its first leaf, and one more.
    for max in [0, 1] {
        group.write("cgroup.max.descendants", &max.to_string());
        refused(group.cgroup().pool(&CgroupLimits::new()).map(drop));
        assert_eq!(group.sub_groups(), [] as [&str; 0]);
    }
    group.write("cgroup.max.descendants", "3");
    let pool = group.pool();
    let leaves: Vec<_> = (0..2).map(|_| pool.acquire().unwrap()).collect();
    refused(pool.acquire().map(drop));
    assert_eq!(pool.leaves(), 2);
    drop(leaves);
    drop(pool.acquire().unwrap());
    drop(pool);
    group.write("cgroup.max.descendants", "max");
    group.write("cgroup.max.depth", "1");
    refused(group.cgroup().pool(&CgroupLimits::new()).map(drop));
    assert_eq!(group.sub_groups(), [] as [&str; 0]);
}

#[test]
fn a_controller_that_is_missing_is_named_before_anything_runs() {
    let Some(group) = TestGroup::new() else {
        return;
    };
    let limits = || CgroupLimits::new();
    let available = group.cgroup().controllers().unwrap();
    for (controller, limits) in [
        ("memory", limits().memory(1 << 30)),
        ("memory", limits().peak_memory(true)),
        ("pids", limits().processes(10)),
        ("cpu", limits().cpus(1.0)),
    ] {
        if available.iter().any(|name| name == controller) {
            eprintln!("not tested: {controller} is available");
            continue;
        }
        match group.cgroup().pool(&limits) {
            Err(error @ CgroupError::NoController { .. }) => {
                let message = error.to_string();
                assert!(message.contains(controller), "{message}");
                assert!(message.contains("Delegate=yes"), "{message}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(group.sub_groups(), [] as [&str; 0]);
    }
}

#[test]
fn values_with_which_nothing_could_run_are_refused() {
    let Some(group) = TestGroup::new() else {
        return;
    };
    let limits = || CgroupLimits::new();
    for (expected, limits) in [
        ("memory.max", limits().memory(0)),
        ("pids.max", limits().processes(0)),
        ("cpu.max", limits().cpus(0.0)),
        ("cpu.max", limits().cpus(-1.0)),
        ("cpu.max", limits().cpus(f64::NAN)),
        ("cpu.max", limits().cpus(f64::INFINITY)),
    ] {
        match group.cgroup().pool(&limits) {
            Err(CgroupError::LimitRefused { file, .. }) => assert_eq!(file, expected),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(group.sub_groups(), [] as [&str; 0]);
}

/// Runs in its own process, with a limit on descriptors.
#[test]
fn without_descriptors_the_limit_is_named_and_nothing_is_lost() {
    if !in_own_process() {
        let test = "errors::without_descriptors_the_limit_is_named_and_nothing_is_lost";
        return run_in_own_process(test, lower_descriptor_limit);
    }
    let Some(group) = TestGroup::new() else {
        return;
    };
    fn refused<T: std::fmt::Debug>(result: Result<T, CgroupError>) {
        match result {
            Err(error @ CgroupError::NoDescriptors(NoDescriptors::Process { limit: 64 })) => {
                assert!(error.is_throttling());
                assert!(error.to_string().contains("ulimit -n"), "{error}");
            }
            other => panic!("{other:?}"),
        }
    }
    let cgroup = group.cgroup();
    let pool = group.pool();
    let (leaf, nested) = (pool.acquire().unwrap(), pool.acquire().unwrap());
    fs::create_dir(nested.path().join("a")).unwrap();
    let mut child = run_in(&leaf.path(), "exec sleep 1000");
    let taken = take_all_descriptors();
    refused(cgroup.pool(&CgroupLimits::new()));
    refused(cgroup.enter_leaf());
    refused(cgroup.controllers());
    refused(leaf.is_populated());
    refused(leaf.kill());
    // Making a leaf without limits takes no descriptor, and removing an empty one neither.
    drop(pool.acquire().unwrap());
    let path = leaf.path();
    drop((leaf, nested));
    drop(taken);
    assert_eq!(processes(&path), [child.id() as i32]);
    child.kill().unwrap();
    child.wait().unwrap();
    // Whatever was set aside is usable again.
    pool.set_max_leaves(2);
    until("both leaves are reset", || {
        let leaves = [pool.acquire(), pool.acquire()];
        leaves.iter().all(Result::is_ok)
    });
    drop(pool);
    assert_eq!(group.sub_groups(), [] as [&str; 0]);
}
