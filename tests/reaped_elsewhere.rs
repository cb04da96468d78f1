//! Children that another part of the program reaps, or that the kernel reaps because `SIGCHLD` is
//! ignored.

mod common;

use std::collections::HashSet;

use common::*;
use exitring::{Child, Outcome, Unknown, Watcher};

#[test]
fn five_thousand_children_are_each_reported_while_another_thread_reaps() {
    if !in_own_process() {
        return run_in_own_process(
            "five_thousand_children_are_each_reported_while_another_thread_reaps",
            |_| (),
        );
    }
    const CHILDREN: usize = 5000;
    let watcher = Watcher::new().unwrap();
    let exits = watcher.exits(CHILDREN).unwrap();
    let gate = ExitGate::new();
    let children: Vec<Child> = (0..CHILDREN)
        .map(|_| {
            let child = watcher.adopt_pid(gate.fork(3)).unwrap();
            exits.add(&child, child.pid().as_raw() as u64).unwrap();
            child
        })
        .collect();
    until_stats(&watcher, "all are armed", |stats| {
        stats.armed == CHILDREN as u64
    });
    let reaper = std::thread::spawn(|| {
        let mut reaped = 0;
        // SAFETY: a null pointer: no status is wanted.
        while unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) } > 0 {
            reaped += 1;
        }
        reaped
    });
    gate.open();
    let mut unknown = 0;
    for child in &children {
        match child.wait().unwrap().outcome() {
            Outcome::Exited(3) => {}
            Outcome::Unknown(Unknown::ReapedElsewhere) => unknown += 1,
            other => panic!("{other:?}"),
        }
    }
    let mut seen = HashSet::new();
    while let Some(tagged) = exits.recv().unwrap() {
        assert_eq!(tagged.exit.pid().as_raw() as u64, tagged.tag);
        assert!(seen.insert(tagged.tag), "{}: received twice", tagged.tag);
    }
    assert_eq!(seen.len(), CHILDREN);
    let reaped = reaper.join().unwrap();
    assert_eq!(
        reaped, unknown,
        "the status is unknown exactly of the children that the thread reaped"
    );
}

#[test]
fn with_sigchld_ignored_the_status_of_an_owned_child_is_reported_as_unknown() {
    if !in_own_process() {
        return run_in_own_process(
            "with_sigchld_ignored_the_status_of_an_owned_child_is_reported_as_unknown",
            |_| (),
        );
    }
    // SAFETY: SIG_IGN is not a handler.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    let watcher = Watcher::new().unwrap();
    for _ in 0..20 {
        let child = watcher.spawn(&mut sh("exit 1")).unwrap();
        let outcome = child.wait().unwrap().outcome();
        assert_eq!(outcome, Outcome::Unknown(Unknown::SigchldIgnored));
    }
}

#[test]
fn with_sigchld_ignored_an_exit_is_reported_with_its_status_or_as_unknown() {
    if !in_own_process() {
        return run_in_own_process(
            "with_sigchld_ignored_an_exit_is_reported_with_its_status_or_as_unknown",
            |_| (),
        );
    }
    // SAFETY: SIG_IGN is not a handler.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    let watcher = Watcher::new().unwrap();
    for code in 0..20 {
        let gate = ExitGate::new();
        let watch = watcher.watch(gate.fork(code)).unwrap();
        gate.open();
        let outcome = watch.wait().unwrap().outcome();
        // From Linux 6.15 on the kernel reports the status also after the reap.
        let unknown = Outcome::Unknown(Unknown::SigchldIgnored);
        assert!(
            outcome == Outcome::Exited(code) || outcome == unknown,
            "{outcome:?}"
        );
    }
}

#[test]
fn a_child_that_another_wait_reaps_first_is_reported_with_its_status_or_as_reaped_elsewhere() {
    let watcher = Watcher::new().unwrap();
    for code in 0..100 {
        let mut child = ControlledChild::spawn();
        let watch = watcher.watch(child.pid()).unwrap();
        child.exit(code);
        // Races with the watcher's query.
        assert_eq!(child.reap(), exited(code));
        let outcome = watch.wait().unwrap().outcome();
        assert!(
            outcome == Outcome::Exited(code)
                || outcome == Outcome::Unknown(Unknown::ReapedElsewhere),
            "{outcome:?}"
        );
    }
}
