//! What a watcher takes, it gives back.

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

fn until_named(name: &str) {
    until(name, || threads().iter().any(|thread| thread == name));
}

/// In a process of its own, because the tests of one binary share theirs.
#[test]
fn dropping_a_watcher_gives_back_threads_and_descriptors() {
    if !alone() {
        return run_alone(
            "dropping_a_watcher_gives_back_threads_and_descriptors",
            |_| (),
        );
    }
    let (descriptors, tasks) = (open_descriptors(), threads().len());
    let child = Obedient::spawn();
    let with_child = open_descriptors();
    let mut kept = Vec::new();
    for workers in [0, 1, 4] {
        let watcher = Watcher::builder().workers(workers).build().unwrap();
        // Each thread names itself when it starts.
        until_named("exitring");
        for index in 0..workers {
            until_named(&format!("exitring-w{index}"));
        }
        for _ in 0..100 {
            let watch = watcher.watch(child.pid()).unwrap();
            watch.on_exit(|_| panic!("it does not end")).unwrap();
            kept.push(watch);
        }
        drop(watcher);
        // A thread that was joined may be listed for a moment more.
        until("the threads are gone", || threads().len() == tasks);
        // The kernel closes a ring behind our back.
        until("the descriptors are gone", || {
            open_descriptors() == with_child
        });
    }
    drop(kept);
    drop(child);
    assert_eq!(open_descriptors(), descriptors);
}

/// The moment right after an exit, when the descriptor for reading its status is about to be closed.
#[test]
fn a_watcher_dropped_right_after_an_exit_leaves_no_descriptor_open() {
    if !alone() {
        return run_alone(
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
    until("the descriptors are gone", || open_descriptors() == before);
}

#[test]
fn watchers_built_at_the_same_time_leave_the_descriptor_limit_alone() {
    if !alone() {
        return run_alone(
            "watchers_built_at_the_same_time_leave_the_descriptor_limit_alone",
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
fn watches_and_watchers_may_be_shared_and_sent() {
    fn shared_and_sent<T: Send + Sync + 'static>() {}
    shared_and_sent::<Watcher>();
    shared_and_sent::<Watch>();
    shared_and_sent::<exitring::compat::ChildPidWatcher>();
    shared_and_sent::<exitring::Child>();
    shared_and_sent::<exitring::Exits>();
}

/// So that they can be used within `catch_unwind`.
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
                    let mut child = Obedient::spawn();
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

/// The drop meets the ring thread at every point of its loop, falling asleep among them.
#[test]
fn a_watcher_may_be_dropped_at_any_moment() {
    let child = Obedient::spawn();
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
