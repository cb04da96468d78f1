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

/// Another thread takes each descriptor that becomes free, the watcher's spare one too. Children of the watcher's own need
/// none, and children of the program's are asked about by pid where the file table holds their identity. The others are
/// refused their status after half a second each, counted from their ends and not one after the other.
#[test]
fn without_any_descriptor_owned_children_pass_and_all_exits_come() {
    use std::os::fd::{FromRawFd, OwnedFd};
    use std::sync::atomic::{AtomicBool, Ordering};
    if !alone() {
        return run_alone(
            "without_any_descriptor_owned_children_pass_and_all_exits_come",
            |_| (),
        );
    }
    let descriptors = descriptor_limit().min(256);
    limit_descriptors(descriptors);
    let watcher = Watcher::new().unwrap();
    let table = watcher.stats().backend == "io_uring" && kernel_is_at_least(6, 13);
    let sleep = || {
        let mut command = Command::new("sleep");
        command.arg("1000").stdin(std::process::Stdio::null());
        command
    };
    let count = descriptors / 4;
    let mut children: Vec<_> = (0..count).map(|_| sleep().spawn().unwrap()).collect();
    let watches: Vec<_> = children
        .iter()
        .map(|child| watcher.watch(child.id()).unwrap())
        .collect();
    let own = watcher.spawn(&mut sleep()).unwrap();
    until_stats(&watcher, "all are armed", |stats| stats.armed == count + 1);

    /// Also if something below panics.
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(false, Ordering::Relaxed);
        }
    }
    let greedy = AtomicBool::new(true);
    std::thread::scope(|scope| {
        let _stop = Stop(&greedy);
        scope.spawn(|| {
            let mut taken = Vec::new();
            while greedy.load(Ordering::Relaxed) {
                // SAFETY: no pointers.
                let fd = unsafe { libc::dup(0) };
                if fd >= 0 {
                    // SAFETY: just made, and nobody else's.
                    taken.push(unsafe { OwnedFd::from_raw_fd(fd) });
                }
            }
        });
        for child in &mut children {
            child.kill().unwrap();
        }
        own.kill().unwrap();
        let killed = Outcome::Signaled {
            signal: libc::SIGKILL,
            core_dumped: false,
        };
        let exit = own.wait_timeout(FOREVER).unwrap().expect("it comes");
        assert_eq!(exit.outcome(), killed);
        // One after the other they would take half a second each.
        for watch in &watches {
            let exit = watch.wait_timeout(FOREVER).unwrap().expect("it comes");
            match exit.outcome() {
                Outcome::Unknown(Unknown::NoDescriptor(_)) if !table => {}
                outcome => assert_eq!(outcome, killed),
            }
        }
    });
    for child in &mut children {
        child.wait().unwrap();
    }
}

/// Something else reaps a child of the watcher's while the ring thread is in a callback, and its pid is another child's by
/// then. As root only: the next pid to be given is set.
#[test]
fn a_stolen_child_whose_pid_came_back_is_not_taken_for_the_new_one() {
    if !alone() {
        return run_alone(
            "a_stolen_child_whose_pid_came_back_is_not_taken_for_the_new_one",
            |_| (),
        );
    }
    for attempt in 0.. {
        assert!(attempt < 100, "the pid was always given to others");
        let watcher = Watcher::builder().workers(0).build().unwrap();
        if watcher.stats().backend == "io_uring" && !kernel_is_at_least(6, 9) {
            eprintln!("before Linux 6.9 nothing tells the two apart");
            return;
        }
        let own = watcher
            .spawn(sh("read code; exit 21").stdin(std::process::Stdio::piped()))
            .unwrap();
        until_stats(&watcher, "it is armed", |stats| stats.armed == 1);
        let (entered, is_in) = std::sync::mpsc::channel();
        let (release, released) = std::sync::mpsc::channel::<()>();
        let blocking = watcher.spawn(&mut Command::new("true")).unwrap();
        blocking
            .on_exit(move |_| {
                entered.send(()).unwrap();
                let _ = released.recv();
            })
            .unwrap();
        receive(&is_in);

        let pid = own.pid().as_raw();
        drop(own.stdin.take());
        // The thief.
        // SAFETY: a null pointer: no status is wanted.
        while unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) } != pid {}
        if std::fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).is_err() {
            eprintln!("not root: nothing to be shown");
            return;
        }
        let mut second = sh("exit 22").spawn().unwrap();
        if second.id() != pid as u32 {
            second.wait().unwrap();
            continue;
        }
        until("the second is a zombie", || {
            is_zombie(exitring::Pid::new(pid).unwrap())
        });
        // With pids to spare the ring thread could not come so late; here it takes longer than that, too.
        std::thread::sleep(std::time::Duration::from_millis(10));
        drop(release);
        let outcome = own.wait().unwrap().outcome();
        assert_eq!(outcome, Outcome::Unknown(Unknown::ReapedElsewhere));
        assert_eq!(second.wait().unwrap().code(), Some(22), "it is not ours");
        return;
    }
}

/// A few descriptors are had at a time, and are given back at once: a long line is no famine.
#[test]
fn with_few_descriptors_a_long_line_of_ended_processes_is_worked_off_and_no_status_lost() {
    let test =
        "with_few_descriptors_a_long_line_of_ended_processes_is_worked_off_and_no_status_lost";
    if !alone() {
        return run_alone(test, |_| ());
    }
    let watcher = Watcher::new().unwrap();
    if watcher.stats().backend != "io_uring" || !kernel_is_at_least(6, 15) {
        eprintln!("a descriptor for each watch, or no status after the reap: nothing to be shown");
        return;
    }
    if descriptor_limit() < 4000 {
        eprintln!("the file table would be too small for so many: nothing to be shown");
        return;
    }
    let gate = Gate::new();
    let pids: Vec<_> = (0..3000).map(|index| gate.fork(index % 100)).collect();
    let watches: Vec<_> = pids
        .iter()
        .map(|pid| watcher.watch_reaped(*pid).unwrap())
        .collect();
    until_stats(&watcher, "all are armed", |stats| stats.armed == 3000);
    // Ten more may be opened.
    limit_descriptors(open_descriptors() as u64 + 10);
    gate.open();
    for (pid, index) in pids.iter().zip(0..) {
        assert_eq!(reap(*pid), index % 100);
    }
    for (watch, index) in watches.iter().zip(0..) {
        let exit = watch.wait_timeout(FOREVER).unwrap().expect("it comes");
        assert_eq!(exit.outcome(), Outcome::Exited(index % 100));
    }
}

fn limit_descriptors(count: u64) {
    let limit = libc::rlimit {
        rlim_cur: count,
        rlim_max: count,
    };
    // SAFETY: a pointer to a live structure.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
    assert_eq!(result, 0);
}
