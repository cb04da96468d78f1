//! Which leaves serve another child, and which do not.

use std::collections::HashSet;
use std::fs;
use std::sync::{Barrier, Mutex};

use exitring::{CgroupError, CgroupLimits};

use crate::common::*;
use crate::test_group::*;

#[test]
fn an_empty_leaf_is_reused() {
    let Some(group) = TestGroup::new() else {
        return;
    };
    let pool = group.pool();
    let leaf = pool.acquire().unwrap();
    let path = leaf.path();
    for _ in 0..3 {
        drop(pool.acquire().unwrap());
    }
    run_to_end(&leaf, "true");
    until_empty(&leaf);
    drop(leaf);
    let again = pool.acquire().unwrap();
    assert_eq!(again.path(), path);
    assert_eq!(pool.leaves(), 2);
}

#[test]
fn a_leaf_with_leftover_processes_is_reused_once_they_have_ended() {
    let Some(group) = TestGroup::new() else {
        return;
    };
    let pool = group.pool();
    let leaf = pool.acquire().unwrap();
    let path = leaf.path();
    run_to_end(&leaf, "sleep 1000 &");
    let leftover = processes(&path);
    drop(leaf);
    // It is never handed out while it is populated.
    let others: Vec<_> = (0..10).map(|_| pool.acquire().unwrap()).collect();
    assert!(others.iter().all(|other| other.path() != path));
    assert_eq!(processes(&path), leftover, "the pool has killed nothing");
    assert_eq!(pool.leaves(), 11);

    fs::write(path.join("cgroup.kill"), "1").unwrap();
    until("it is empty", || {
        let events = fs::read_to_string(path.join("cgroup.events")).unwrap();
        events.contains("populated 0")
    });
    assert_eq!(pool.acquire().unwrap().path(), path);
    assert_eq!(pool.leaves(), 11);
}

/// A child changes its leaf so that a later child could not run in it, or would find something.
#[test]
fn a_leaf_that_its_child_has_changed_is_not_reused() {
    let Some(group) = TestGroup::new() else {
        return;
    };
    let pool = group.pool();
    for script in [
        "mkdir $LEAF/a $LEAF/a/b $LEAF/a/b/c $LEAF/d",
        "mkdir $LEAF/a && echo threaded >$LEAF/a/cgroup.type",
        "(echo 1 >$LEAF/cgroup.freeze) & wait",
    ] {
        let leaf = pool.acquire().unwrap();
        let path = leaf.path();
        let mut command = sh(&format!("read go; {script}"));
        let mut child = run_command_in(&path, command.env("LEAF", &path));
        if script.contains("freeze") {
            until("it is frozen", || {
                let events = fs::read_to_string(path.join("cgroup.events")).unwrap();
                events.contains("frozen 1")
            });
            leaf.kill().unwrap();
        }
        child.wait().unwrap();
        until_empty(&leaf);
        drop(leaf);
        assert!(!path.exists(), "{script}");
        let next = pool.acquire().unwrap();
        assert_ne!(next.path(), path);
        assert_eq!(sub_groups(&next.path()), [] as [&str; 0]);
        run_to_end(&next, "true");
        until_empty(&next);
    }
    assert_eq!(sub_groups(&pool.path()).len(), pool.leaves());
}

#[test]
fn leaves_can_be_made_ahead_and_a_pool_is_bounded() {
    let Some(group) = TestGroup::new() else {
        return;
    };
    let pool = group.pool();
    pool.prepare(5).unwrap();
    pool.prepare(3).unwrap();
    assert_eq!(pool.leaves(), 5);
    pool.set_max_leaves(6);
    match pool.prepare(7) {
        Err(CgroupError::PoolFull {
            max: 6,
            with_leftovers: 0,
        }) => {}
        other => panic!("{other:?}"),
    }
    let mut leaves: Vec<_> = (0..6).map(|_| pool.acquire().unwrap()).collect();
    run_to_end(&leaves[0], "sleep 1000 &");
    let path = leaves.remove(0).path();
    match pool.acquire() {
        Err(
            error @ CgroupError::PoolFull {
                max: 6,
                with_leftovers: 1,
            },
        ) => {
            assert!(error.is_throttling());
            assert!(error.to_string().contains("set_max_leaves"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    // A full pool looks at all leaves with leftovers.
    fs::write(path.join("cgroup.kill"), "1").unwrap();
    let mut last = None;
    until("the leaf is empty, and taken", || {
        last = pool.acquire().ok();
        last.is_some()
    });
    assert_eq!(last.unwrap().path(), path);
    assert_eq!(sub_groups(&pool.path()).len(), 6);
}

#[test]
fn threads_never_get_the_same_leaf() {
    let Some(group) = TestGroup::new() else {
        return;
    };
    let pool = group.pool();
    let in_use = Mutex::new(HashSet::new());
    let all = Barrier::new(8);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                all.wait();
                for round in 0..200 {
                    let leaf = pool.acquire().unwrap();
                    let path = leaf.path();
                    assert!(in_use.lock().unwrap().insert(path.clone()));
                    assert!(!leaf.is_populated().unwrap());
                    if round % 10 == 0 {
                        // Not reused.
                        fs::create_dir(path.join("a")).unwrap();
                    }
                    assert!(in_use.lock().unwrap().remove(&path));
                }
            });
        }
    });
    assert!(pool.leaves() <= 9, "{}", pool.leaves());
    assert_eq!(sub_groups(&pool.path()).len(), pool.leaves());
}

/// Runs in its own process, where nothing else opens descriptors.
#[test]
fn leaves_hold_no_descriptor_and_a_dropped_pool_leaves_nothing() {
    if !in_own_process() {
        let test = "reuse::leaves_hold_no_descriptor_and_a_dropped_pool_leaves_nothing";
        return run_in_own_process(test, |_| ());
    }
    let Some(group) = TestGroup::new() else {
        return;
    };
    let before = open_descriptors();
    let pool = group.cgroup().pool(&CgroupLimits::new()).unwrap();
    assert_eq!(open_descriptors(), before + 1);
    let leaves: Vec<_> = (0..1100).map(|_| pool.acquire().unwrap()).collect();
    assert_eq!(sub_groups(&pool.path()).len(), 1100);
    assert_eq!(open_descriptors(), before + 1);
    // Fewer unused leaves are kept than that.
    drop(leaves);
    assert_eq!(pool.leaves(), 1024);
    assert_eq!(sub_groups(&pool.path()).len(), 1024);
    let leaf = pool.acquire().unwrap();
    drop(pool);
    // The leaf holds the pool.
    run_to_end(&leaf, "true");
    assert_eq!(group.sub_groups().len(), 1);
    until_empty(&leaf);
    drop(leaf);
    assert_eq!(group.sub_groups(), [] as [&str; 0]);
    assert_eq!(open_descriptors(), before);
}

#[test]
fn copies_in_a_forked_child_refuse_calls_and_their_drop_does_nothing() {
    let Some(group) = TestGroup::new() else {
        return;
    };
    let pool = group.pool();
    // With one handle, whose drop would remove the groups.
    let only = group.pool();
    only.prepare(3).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let busy = pool.clone();
    std::thread::scope(|scope| {
        let _stop = OnDrop(|| stop.store(true, std::sync::atomic::Ordering::Relaxed));
        // A lock is probably held at a fork.
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                drop(busy.acquire().unwrap());
            }
        });
        for _ in 0..50 {
            let leaf = pool.acquire().unwrap();
            // A drop that is not refused removes it.
            let nested = leaf.path().join("a");
            fs::create_dir(&nested).unwrap();
            // SAFETY: the calls are refused before they take a lock, and the C library makes memory
            // usable in a forked child. The originals are not used there.
            let pid = unsafe {
                fork(|| {
                    let leaf = std::ptr::read(&raw const leaf);
                    let pool = std::ptr::read(&raw const pool);
                    let only = std::ptr::read(&raw const only);
                    let refused = matches!(pool.acquire(), Err(CgroupError::ForkedChild))
                        && matches!(pool.prepare(9), Err(CgroupError::ForkedChild))
                        && pool.leaves() == 0;
                    pool.set_max_leaves(0);
                    drop((leaf, pool, only));
                    i32::from(!refused)
                })
            };
            assert_eq!(reap(pid), 0);
            assert!(nested.exists());
            assert_eq!(sub_groups(&only.path()).len(), 3);
        }
    });
    assert_eq!(sub_groups(&pool.path()).len(), pool.leaves());
    assert!(pool.leaves() <= 4);
}
