//! Owned children when the rest of the program is against them.

mod common;

use std::process::Command;

use common::*;
use exitring::{Child, Outcome, SignalError, SpawnError, Unknown, Watcher};

fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

/// Adopting a child that `std` has reaped must not touch who has its pid by now. A pid namespace of the
/// test's own would make that quick to bring about; without, the next pid to be given can be set (as root).
#[test]
fn adopting_a_child_that_was_waited_for_leaves_the_next_owner_of_its_pid_alone() {
    if !alone() {
        return run_alone(
            "adopting_a_child_that_was_waited_for_leaves_the_next_owner_of_its_pid_alone",
            |_| (),
        );
    }
    let watcher = Watcher::new().unwrap();
    for _ in 0..100 {
        let mut waited = sh("exit 7").spawn().unwrap();
        waited.wait().unwrap();
        let last_pid = (waited.id() - 1).to_string();
        if std::fs::write("/proc/sys/kernel/ns_last_pid", last_pid).is_err() {
            // Not root: nothing to be shown.
            return;
        }
        let mut next = Command::new("sleep").arg("1000").spawn().unwrap();
        if next.id() == waited.id() {
            let adopted = watcher.adopt(waited).unwrap();
            assert_eq!(adopted.wait().unwrap().outcome(), Outcome::Exited(7));
            let signalled = adopted.signal(libc::SIGKILL);
            assert!(matches!(signalled, Err(SignalError::Exited)));
            assert_eq!(next.try_wait().unwrap(), None, "it lives");
            next.kill().unwrap();
            next.wait().unwrap();
            return;
        }
        // Somebody else was quicker.
        next.kill().unwrap();
        next.wait().unwrap();
    }
    panic!("the pid was always given to others");
}

#[test]
fn five_thousand_children_and_a_thief_leave_nobody_waiting() {
    if !alone() {
        return run_alone(
            "five_thousand_children_and_a_thief_leave_nobody_waiting",
            |_| (),
        );
    }
    const CHILDREN: usize = 5000;
    let watcher = Watcher::new().unwrap();
    let exits = watcher.exits(CHILDREN).unwrap();
    let gate = Gate::new();
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
    let thief = std::thread::spawn(|| {
        let mut stolen = 0;
        // SAFETY: no status is asked for.
        while unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) } > 0 {
            stolen += 1;
        }
        stolen
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
    let mut seen = std::collections::HashSet::new();
    while let Some(tagged) = exits.recv().unwrap() {
        assert_eq!(tagged.exit.pid().as_raw() as u64, tagged.tag);
        assert!(seen.insert(tagged.tag), "{} came twice", tagged.tag);
    }
    assert_eq!(seen.len(), CHILDREN);
    let stolen = thief.join().unwrap();
    assert_eq!(
        stolen, unknown,
        "what was stolen, and only that, is unknown"
    );
}

#[test]
fn with_sigchld_ignored_owned_children_are_said_to_be_untellable() {
    if !alone() {
        return run_alone(
            "with_sigchld_ignored_owned_children_are_said_to_be_untellable",
            |_| (),
        );
    }
    // SAFETY: "ignore" is no function.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    let watcher = Watcher::new().unwrap();
    for _ in 0..20 {
        let child = watcher.spawn(&mut sh("exit 1")).unwrap();
        let outcome = child.wait().unwrap().outcome();
        assert_eq!(outcome, Outcome::Unknown(Unknown::SigchldIgnored));
    }
}

/// The limit is met after the watcher and a few descriptors are there, and before any pidfd could be had.
#[test]
fn children_are_watched_whatever_descriptors_are_left() {
    if !alone() {
        return run_alone(
            "children_are_watched_whatever_descriptors_are_left",
            lower_descriptor_limit,
        );
    }
    let watcher = Watcher::new().unwrap();
    let gate = Gate::new();
    let mut taken = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        taken.push(file);
    }
    let children: Vec<Child> = (0..200)
        .map(|_| watcher.adopt_pid(gate.fork(2)).unwrap())
        .collect();
    if watcher.stats().backend == "io_uring" {
        until_stats(&watcher, "all are armed", |stats| stats.armed == 200);
    }
    // Even if the limit is below what is open, so that not a single one can be had.
    let limit = |soft| {
        use rustix::process::{Resource, Rlimit, setrlimit};
        let limit = Rlimit {
            current: Some(soft),
            maximum: Some(64),
        };
        setrlimit(Resource::Nofile, limit).unwrap();
    };
    limit(3);
    // SAFETY: the child ends at once.
    let ended = unsafe {
        let pid = libc::fork();
        if pid == 0 {
            libc::_exit(6);
        }
        watcher.adopt_pid(pid).unwrap()
    };
    assert_eq!(ended.wait().unwrap().outcome(), Outcome::Exited(6));
    limit(64);
    gate.open();
    for child in &children {
        assert_eq!(child.wait().unwrap().outcome(), Outcome::Exited(2));
    }
    drop(taken);
}

/// As another user than root, whom the limit does not hold.
#[test]
fn which_limit_of_processes_is_met_is_said() {
    if !alone() {
        return run_alone("which_limit_of_processes_is_met_is_said", |_| ());
    }
    let watcher = Watcher::new().unwrap();
    let nobody = 65_534;
    let limit = libc::rlimit {
        rlim_cur: 1,
        rlim_max: 1,
    };
    // SAFETY: plain calls; the pointer is to a live structure. Not root, nothing is changed by the first.
    unsafe {
        libc::setresuid(nobody, nobody, nobody);
        assert_eq!(libc::setrlimit(libc::RLIMIT_NPROC, &raw const limit), 0);
    }
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
