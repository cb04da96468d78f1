//! Limits of descriptors, processes and watches: what is refused, and what works all the same.

mod common;

use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

use common::*;
use exitring::{
    BuildError, Child, ForkError, NoDescriptors, Outcome, SpawnError, Unknown, WatchError, Watcher,
};
use rustix::process::Resource;

/// The limit is reached when the watcher exists, before it opens any pidfd.
#[test]
fn owned_children_are_watched_however_few_descriptors_are_left() {
    if !in_own_process() {
        return run_in_own_process(
            "owned_children_are_watched_however_few_descriptors_are_left",
            lower_descriptor_limit,
        );
    }
    let watcher = Watcher::new().unwrap();
    let gate = ExitGate::new();
    let taken = take_all_descriptors();
    let children: Vec<Child> = (0..200)
        .map(|_| watcher.adopt_pid(gate.fork(2)).unwrap())
        .collect();
    if watcher.stats().backend == "io_uring" {
        until_stats(&watcher, "all are armed", |stats| stats.armed == 200);
    }
    // Also with a limit below the number of open descriptors, so that none can be opened.
    set_limit(Resource::Nofile, 3, 64).unwrap();
    // SAFETY: the child exits at once.
    let ended = watcher.adopt_pid(unsafe { fork(|| 6) }).unwrap();
    assert_eq!(ended.wait().unwrap().outcome(), Outcome::Exited(6));
    set_limit(Resource::Nofile, 64, 64).unwrap();
    gate.open();
    for child in &children {
        assert_eq!(child.wait().unwrap().outcome(), Outcome::Exited(2));
    }
    drop(taken);
}

/// Runs as a user other than root, to whom the limit does not apply.
#[test]
fn a_failed_spawn_names_the_process_limit_that_was_reached() {
    if !in_own_process() {
        return run_in_own_process(
            "a_failed_spawn_names_the_process_limit_that_was_reached",
            |_| (),
        );
    }
    let watcher = Watcher::new().unwrap();
    let nobody = 65_534;
    // SAFETY: no pointers. For a user other than root the call fails and changes nothing.
    unsafe { libc::setresuid(nobody, nobody, nobody) };
    set_limit(Resource::Nproc, 1, 1).unwrap();
    match watcher.spawn(&mut sh("true")) {
        Err(error @ SpawnError::NoProcesses(_)) => {
            assert!(error.is_throttling());
            let message = error.to_string();
            assert!(message.contains("RLIMIT_NPROC is 1"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(watcher.stats().watched, 0);
}

/// Another thread takes each descriptor that becomes free, also the one that the watcher keeps in
/// reserve. Owned children need none. The status of other children is queried by pid if the file
/// table holds their identity. If not, the watch fails half a second after the exit; these delays
/// run concurrently.
#[test]
fn without_any_descriptor_owned_children_and_all_exits_are_reported() {
    if !in_own_process() {
        return run_in_own_process(
            "without_any_descriptor_owned_children_and_all_exits_are_reported",
            |_| (),
        );
    }
    let descriptors = descriptor_limit().min(256);
    limit_descriptors(descriptors);
    let watcher = Watcher::new().unwrap();
    let has_file_table = watcher.stats().backend == "io_uring" && kernel_is_at_least(6, 13);
    let count = descriptors / 4;
    let spawn = |_| sleep().stdin(Stdio::null()).spawn().unwrap();
    let mut children: Vec<_> = (0..count).map(spawn).collect();
    let watches: Vec<_> = children
        .iter()
        .map(|child| watcher.watch(child.id()).unwrap())
        .collect();
    let owned = watcher.spawn(sleep().stdin(Stdio::null())).unwrap();
    until_stats(&watcher, "all are armed", |stats| stats.armed == count + 1);

    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Also stops the thread if an assertion fails.
        let _stop = OnDrop(|| stop.store(true, Ordering::Relaxed));
        scope.spawn(|| {
            let mut taken = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                taken.extend(duplicate_stdin());
            }
        });
        for child in &mut children {
            child.kill().unwrap();
        }
        owned.kill().unwrap();
        let killed = signaled(libc::SIGKILL);
        let exit = owned.wait_timeout(TEST_TIMEOUT).unwrap();
        assert_eq!(exit.expect("it ends in time").outcome(), killed);
        // The timeout would be too short for delays of half a second one after the other.
        for watch in &watches {
            let exit = watch.wait_timeout(TEST_TIMEOUT).unwrap();
            match exit.expect("it ends in time").outcome() {
                Outcome::Unknown(Unknown::NoDescriptor(_)) if !has_file_table => {}
                outcome => assert_eq!(outcome, killed),
            }
        }
    });
    for child in &mut children {
        child.wait().unwrap();
    }
}

/// The watcher holds a few descriptors at a time and closes each at once: a long queue is no
/// permanent shortage.
#[test]
fn with_few_descriptors_a_long_queue_of_exits_is_drained_and_no_status_is_lost() {
    let test = "with_few_descriptors_a_long_queue_of_exits_is_drained_and_no_status_is_lost";
    if !in_own_process() {
        return run_in_own_process(test, |_| ());
    }
    let watcher = Watcher::new().unwrap();
    if watcher.stats().backend != "io_uring" || !kernel_is_at_least(6, 15) {
        eprintln!("not tested: each watch holds a descriptor, or no status is known after a reap");
        return;
    }
    if descriptor_limit() < 4000 {
        eprintln!("not tested: the file table would be too small for 3000 watches");
        return;
    }
    let gate = ExitGate::new();
    let pids: Vec<_> = (0..3000).map(|index| gate.fork(index % 100)).collect();
    let watches: Vec<_> = pids
        .iter()
        .map(|pid| watcher.watch_reaped(*pid).unwrap())
        .collect();
    until_stats(&watcher, "all are armed", |stats| stats.armed == 3000);
    // Ten more can be opened.
    limit_descriptors(open_descriptors() as u64 + 10);
    gate.open();
    for (pid, index) in pids.iter().zip(0..) {
        assert_eq!(reap(*pid), index % 100);
    }
    for (watch, index) in watches.iter().zip(0..) {
        let exit = watch.wait_timeout(TEST_TIMEOUT).unwrap();
        let outcome = exit.expect("it ends in time").outcome();
        assert_eq!(outcome, Outcome::Exited(index % 100));
    }
}

#[test]
fn watches_beyond_max_watches_are_refused_until_some_end() {
    let watcher = Watcher::builder().max_watches(2).build().unwrap();
    let mut child = ControlledChild::spawn();
    let first = watcher.watch(child.pid()).unwrap();
    let second = watcher.watch(child.pid()).unwrap();
    let error = watcher.watch(child.pid()).unwrap_err();
    assert!(matches!(error, WatchError::TooMany { limit: 2 }));
    assert!(error.is_throttling());
    drop(second);
    until("a watch is accepted again", || {
        watcher.watch(child.pid()).is_ok()
    });
    child.exit(0);
    first.wait().unwrap();
    until_stats(&watcher, "nothing is watched", |stats| stats.watched == 0);
}

#[test]
fn without_descriptors_new_watches_are_refused_and_no_status_is_lost() {
    if !in_own_process() {
        return run_in_own_process(
            "without_descriptors_new_watches_are_refused_and_no_status_is_lost",
            lower_descriptor_limit,
        );
    }
    let watcher = Watcher::new().unwrap();
    let mut child = ControlledChild::spawn();
    let other = ControlledChild::spawn();
    let watch = watcher.watch(child.pid()).unwrap();
    until_stats(&watcher, "it is armed", |stats| stats.armed == 1);

    let taken = take_all_descriptors();
    let limit = NoDescriptors::Process { limit: 64 };
    match watcher.watch(other.pid()) {
        Err(error @ WatchError::NoDescriptors(_)) => {
            assert!(error.is_throttling());
            assert!(message(error).contains("RLIMIT_NOFILE"));
        }
        other => panic!("{other:?}"),
    }
    match Watcher::new() {
        Err(BuildError::NoDescriptors(found)) => assert_eq!(found, limit),
        other => panic!("{other:?}"),
    }
    // SAFETY: the child does nothing.
    match unsafe { watcher.fork_watchable(|| ()) } {
        Err(ForkError::Refused(WatchError::NoDescriptors(found))) => assert_eq!(found, limit),
        other => panic!("{other:?}"),
    }
    assert_eq!(watcher.stats().watched, 1);

    // The status of the existing watch can still be read.
    child.exit(11);
    assert_eq!(watch.wait().unwrap().outcome(), Outcome::Exited(11));
    drop(taken);
    let watch = watcher.watch(other.pid()).unwrap();
    drop(other);
    watch.wait().unwrap();
}

#[test]
fn a_thousand_watches_fit_into_64_descriptors() {
    if !in_own_process() {
        return run_in_own_process(
            "a_thousand_watches_fit_into_64_descriptors",
            lower_descriptor_limit,
        );
    }
    let watcher = Watcher::new().unwrap();
    let mut child = ControlledChild::spawn();
    let before = open_descriptors();
    // Before Linux 6.9, and with epoll, a watch of a process that is not owned keeps its pidfd.
    let own = watcher.stats().descriptors;
    let one = watcher.watch(child.pid()).unwrap();
    let held = until_stats(&watcher, "it is armed", |stats| stats.armed == 1).descriptors - own;
    drop(one);
    until_stats(&watcher, "nothing is watched", |stats| stats.watched == 0);
    let count = if held == 0 { 1000 } else { 20 };
    let watches: Vec<_> = (0..count)
        .map(|_| watcher.watch(child.pid()).unwrap())
        .collect();
    let stats = until_stats(&watcher, "all are armed", |stats| stats.armed == count);
    assert_eq!(stats.descriptors, own + held * count);
    assert_eq!(open_descriptors(), before + (held * count) as usize);
    child.exit(12);
    for watch in &watches {
        assert_eq!(watch.wait().unwrap().outcome(), Outcome::Exited(12));
    }
    until("all descriptors are closed", || {
        open_descriptors() <= before
    });
}
