//! The life of a watcher: what its drop releases, and how threads may share it.

mod common;

use std::sync::Arc;

use common::*;
use exitring::{Watch, Watcher};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

fn threads() -> Vec<String> {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok())
        .map(|name| name.trim().to_owned())
        .collect()
}

fn until_thread_runs(name: &str) {
    until(name, || threads().iter().any(|thread| thread == name));
}

/// Runs in a process of its own, because the tests of one binary share a process.
#[test]
fn dropping_a_watcher_releases_threads_and_descriptors() {
    if !in_own_process() {
        return run_in_own_process(
            "dropping_a_watcher_releases_threads_and_descriptors",
            |_| (),
        );
    }
    let (descriptors, tasks) = (open_descriptors(), threads().len());
    let child = ControlledChild::spawn();
    let with_child = open_descriptors();
    let mut kept = Vec::new();
    for workers in [0, 1, 4] {
        let watcher = Watcher::builder().workers(workers).build().unwrap();
        // Each thread names itself when it starts.
        until_thread_runs("exitring");
        for index in 0..workers {
            until_thread_runs(&format!("exitring-w{index}"));
        }
        for _ in 0..100 {
            let watch = watcher.watch(child.pid()).unwrap();
            watch.on_exit(|_| panic!("the child runs")).unwrap();
            kept.push(watch);
        }
        drop(watcher);
        // The kernel may list a joined thread for another moment.
        until("the threads have ended", || threads().len() == tasks);
        // The kernel closes a ring asynchronously.
        until("the descriptors are closed", || {
            open_descriptors() == with_child
        });
    }
    drop(kept);
    drop(child);
    assert_eq!(open_descriptors(), descriptors);
}

/// Right after an exit the descriptor for the status query is about to be closed.
#[test]
fn a_watcher_dropped_right_after_an_exit_leaves_no_descriptor_open() {
    if !in_own_process() {
        return run_in_own_process(
            "a_watcher_dropped_right_after_an_exit_leaves_no_descriptor_open",
            |_| (),
        );
    }
    let children: Vec<_> = (0..10).map(zombie).collect();
    let before = open_descriptors();
    for workers in [0, 1] {
        for _ in 0..100 {
            let watcher = Watcher::builder().workers(workers).build().unwrap();
            let watches: Vec<_> = children
                .iter()
                .map(|child| watcher.watch(child.pid()).unwrap())
                .collect();
            watches[0].wait().unwrap();
            drop(watcher);
        }
    }
    until("the descriptors are closed", || {
        open_descriptors() == before
    });
}

#[test]
fn watchers_built_concurrently_do_not_change_the_descriptor_limit() {
    if !in_own_process() {
        return run_in_own_process(
            "watchers_built_concurrently_do_not_change_the_descriptor_limit",
            |_| (),
        );
    }
    let hard = getrlimit(Resource::Nofile).maximum;
    let lowered = Rlimit {
        current: hard.map_or(Some(1000), |hard| Some(hard / 2)),
        maximum: hard,
    };
    setrlimit(Resource::Nofile, lowered).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..50).for_each(|_| drop(Watcher::new().unwrap())));
        }
    });
    assert_eq!(getrlimit(Resource::Nofile), lowered);
}

#[test]
fn handles_are_send_and_sync() {
    fn send_and_sync<T: Send + Sync + 'static>() {}
    send_and_sync::<Watcher>();
    send_and_sync::<Watch>();
    send_and_sync::<exitring::compat::ChildPidWatcher>();
    send_and_sync::<exitring::Child>();
    send_and_sync::<exitring::Exits>();
}

/// Unwind-safe types can be used within `catch_unwind`.
#[test]
fn all_public_types_are_unwind_safe() {
    use std::panic::{RefUnwindSafe, UnwindSafe};
    fn unwind_safe<T: UnwindSafe + RefUnwindSafe>() {}
    unwind_safe::<Watcher>();
    unwind_safe::<Watch>();
    unwind_safe::<exitring::Builder>();
    unwind_safe::<exitring::CallbackId>();
    unwind_safe::<exitring::Cancel>();
    unwind_safe::<exitring::Child>();
    unwind_safe::<exitring::Exit>();
    unwind_safe::<exitring::Exited<'_>>();
    unwind_safe::<exitring::Exits>();
    unwind_safe::<exitring::ExitsIntoIter>();
    unwind_safe::<exitring::ExitsIter<'_>>();
    unwind_safe::<exitring::ExitsTryIter<'_>>();
    unwind_safe::<exitring::Outcome>();
    unwind_safe::<exitring::Output>();
    unwind_safe::<exitring::OwnedExited<exitring::Child>>();
    unwind_safe::<exitring::OwnedExited<Watch>>();
    unwind_safe::<exitring::Pid>();
    unwind_safe::<exitring::Pipe<std::process::ChildStdin>>();
    unwind_safe::<exitring::Stats>();
    unwind_safe::<exitring::Tagged>();
    unwind_safe::<exitring::Usage>();
    unwind_safe::<exitring::compat::ChildPidWatcher>();
}

#[test]
fn many_threads_may_watch_at_once() {
    let watcher = Arc::new(Watcher::builder().workers(2).build().unwrap());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for code in 0..50 {
                    let mut child = ControlledChild::spawn();
                    let watch = watcher.watch(child.pid()).unwrap();
                    child.exit(code);
                    assert_eq!(watch.wait().unwrap().status(), Some(exited(code)));
                    assert_eq!(child.reap(), exited(code));
                }
            });
        }
    });
    let stats = until_stats(&watcher, "nothing is watched", |stats| stats.watched == 0);
    assert_eq!(stats.delivered, 400);
}

/// The drop may come at any point of the ring thread's loop, also just before it sleeps.
#[test]
fn a_watcher_may_be_dropped_at_any_moment() {
    let child = ControlledChild::spawn();
    for round in 0..3000_u32 {
        let watcher = Watcher::builder()
            .workers(round as usize % 2)
            .build()
            .unwrap();
        for _ in 0..round % 3 {
            drop(watcher.watch(child.pid()).unwrap());
        }
        (0..round % 64).for_each(|_| std::hint::spin_loop());
    }
}
