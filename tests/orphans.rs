//! Orphans: processes that children of the watcher leave behind.

mod common;

use std::collections::HashSet;
use std::os::unix::process::CommandExt;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::*;
use exitring::{
    BuildError, Closed, Command, Outcome, RecvError, RecvTimeoutError, Stdio, TryRecvError, Watcher,
};

/// The setting is one of the process, so each test has its own.
macro_rules! in_own_process {
    ($name:literal) => {
        if !in_own_process() {
            return run_in_own_process($name, |_| ());
        }
    };
}

fn subreaper() -> Watcher {
    Watcher::builder().subreaper(true).build().unwrap()
}

fn leader(script: &str) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", script])
        .process_group(0)
        .stdin(Stdio::null());
    command
}

#[test]
fn orphans_are_reaped_and_reported_with_their_leader() {
    in_own_process!("orphans_are_reaped_and_reported_with_their_leader");
    let watcher = subreaper();
    let orphans = watcher.orphans(16).unwrap();
    assert_eq!(orphans.try_recv(), Err(TryRecvError::Empty));
    // One ends before its leader, one with it, and one later.
    let script = "(exit 7) & (sleep 0.1; exit 8) & (sleep 0.3; exit 9) & sleep 0.1; exit 3";
    let child = watcher.spawn(&mut leader(script)).unwrap();
    assert_eq!(child.wait().unwrap().outcome(), Outcome::Exited(3));
    let mut codes = Vec::new();
    // The shell reaps the first itself, if it is quick.
    while !codes.contains(&9) {
        let tagged = orphans.recv_timeout(TEST_TIMEOUT).unwrap().unwrap();
        assert_eq!(tagged.tag, child.id().into());
        assert!(tagged.exit.usage().is_some() && tagged.exit.pid() != child.pid());
        let Outcome::Exited(code) = tagged.exit.outcome() else {
            panic!("{tagged:?}");
        };
        codes.push(code);
    }
    assert!(
        codes.iter().all(|code| [7, 8, 9].contains(code)),
        "{codes:?}"
    );
    assert_eq!(watcher.stats().orphans, codes.len() as u64);
    let timeout = orphans.recv_timeout(Duration::from_millis(1));
    assert_eq!(timeout, Err(RecvTimeoutError::Timeout));
    // SAFETY: a null pointer. No zombie is left.
    let zombie = unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) };
    assert_eq!(zombie, -1);
    drop(watcher);
    assert_eq!(orphans.recv(), Err(RecvError::Closed(Closed::Dropped)));
}

#[test]
fn many_orphans_of_one_group_are_each_reported_once() {
    in_own_process!("many_orphans_of_one_group_are_each_reported_once");
    const ORPHANS: usize = 200;
    let watcher = subreaper();
    let orphans = watcher.orphans(ORPHANS).unwrap();
    // They end when their input ends, after the leader.
    let script =
        format!("exec 3<&0; for i in $(seq {ORPHANS}); do (read line <&3; exit 5) & done; exit 3");
    let mut command = leader(&script);
    let child = watcher.spawn(command.stdin(Stdio::piped())).unwrap();
    until_stats(&watcher, "the leader has ended", |stats| {
        stats.delivered == 1
    });
    drop(child);
    let mut pids = HashSet::new();
    while pids.len() < ORPHANS {
        let tagged = orphans.recv_timeout(TEST_TIMEOUT).unwrap().unwrap();
        assert_eq!(tagged.exit.outcome(), Outcome::Exited(5));
        assert!(pids.insert(tagged.exit.pid()));
    }
    until_stats(&watcher, "all are counted", |stats| {
        stats.orphans == ORPHANS as u64
    });
}

#[test]
fn orphans_of_a_living_leader_are_reaped() {
    in_own_process!("orphans_of_a_living_leader_are_reaped");
    let watcher = subreaper();
    let orphans = watcher.orphans(1).unwrap();
    let child = watcher
        .spawn(&mut leader("sh -c '(exit 5) &'; sleep 1000"))
        .unwrap();
    let tagged = orphans.recv_timeout(TEST_TIMEOUT).unwrap().unwrap();
    assert_eq!(tagged.exit.outcome(), Outcome::Exited(5));
    assert_eq!(child.exit(), None);
    child.signal_group(libc::SIGKILL).unwrap();
}

#[test]
fn statuses_of_other_children_are_left_alone() {
    in_own_process!("statuses_of_other_children_are_left_alone");
    let watcher = subreaper();
    let orphans = watcher.orphans(100).unwrap();
    let mut others: Vec<process::Child> = (0..10)
        .map(|code| {
            let mut command = process::Command::new("sh");
            command.args(["-c", &format!("exit {code}")]);
            match code % 2 {
                0 => command.process_group(0).spawn().unwrap(),
                _ => command.spawn().unwrap(),
            }
        })
        .collect();
    for _ in 0..10 {
        let child = watcher
            .spawn(&mut leader("(sleep 0.01; exit 1) & exit 0"))
            .unwrap();
        assert!(child.wait().unwrap().success());
    }
    for _ in 0..10 {
        orphans.recv_timeout(TEST_TIMEOUT).unwrap().unwrap();
    }
    for (code, other) in others.iter_mut().enumerate() {
        assert_eq!(other.wait().unwrap().code(), Some(code as i32));
    }
    assert_eq!(watcher.stats().orphans, 10);
}

#[test]
fn children_of_the_watcher_in_the_group_keep_their_status() {
    in_own_process!("children_of_the_watcher_in_the_group_keep_their_status");
    let watcher = subreaper();
    let orphans = watcher.orphans(1000).unwrap();
    // It leaves the group to others, which are checked often from then on.
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let mut cat = Command::new("cat");
    let holder = watcher.spawn(cat.process_group(0).stdin(reader)).unwrap();
    let group = holder.pid().as_raw();
    let mut member = Command::new("cat");
    let (member_reader, member_writer) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let member = watcher
        .spawn(member.process_group(group).stdin(member_reader))
        .unwrap();
    drop(writer);
    holder.wait().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let watcher = &watcher;
            scope.spawn(move || {
                for number in 0..50 {
                    let code = thread * 50 + number;
                    let mut command = Command::new("sh");
                    command.args(["-c", &format!("(exit 250) & exit {code}")]);
                    let child = watcher.spawn(command.process_group(group)).unwrap();
                    assert_eq!(child.wait().unwrap().outcome(), Outcome::Exited(code));
                }
            });
        }
    });
    drop(member_writer);
    assert!(member.wait().unwrap().success());
    while let Ok(Some(tagged)) = orphans.try_recv() {
        assert_eq!(tagged.exit.outcome(), Outcome::Exited(250));
    }
}

#[test]
fn a_full_queue_loses_no_orphan() {
    in_own_process!("a_full_queue_loses_no_orphan");
    let watcher = subreaper();
    let orphans = watcher.orphans(1).unwrap();
    let script = "for i in 1 2 3 4 5; do (sleep 0.05; exit $i) & done; exit 0";
    watcher.spawn(&mut leader(script)).unwrap().wait().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(watcher.stats().orphans <= 1, "one fits the queue");
    let mut codes: Vec<_> = (0..5)
        .map(|_| {
            match orphans
                .recv_timeout(TEST_TIMEOUT)
                .unwrap()
                .unwrap()
                .exit
                .outcome()
            {
                Outcome::Exited(code) => code,
                other => panic!("{other:?}"),
            }
        })
        .collect();
    codes.sort_unstable();
    assert_eq!(codes, [1, 2, 3, 4, 5]);
}

#[test]
fn a_watcher_reaps_orphans_only_if_asked_to() {
    in_own_process!("a_watcher_reaps_orphans_only_if_asked_to");
    let watcher = Watcher::new().unwrap();
    assert!(matches!(watcher.orphans(1), Err(BuildError::NoSubreaper)));
    let mut setting = 0;
    // SAFETY: the pointer is to a live integer.
    unsafe { libc::prctl(libc::PR_GET_CHILD_SUBREAPER, &raw mut setting) };
    assert_eq!(setting, 0);
    let subreaper = subreaper();
    // SAFETY: as above.
    unsafe { libc::prctl(libc::PR_GET_CHILD_SUBREAPER, &raw mut setting) };
    assert_eq!(setting, 1);
    assert!(subreaper.orphans(0).is_err());
    // Without a queue they are reaped and counted.
    let child = subreaper
        .spawn(&mut leader("(sleep 0.01; exit 1) & exit 0"))
        .unwrap();
    child.wait().unwrap();
    until_stats(&subreaper, "it is reaped", |stats| stats.orphans == 1);
}

/// A start that is under way may be that of the process that was found. Later ones are not.
#[test]
fn orphans_are_reaped_while_children_are_started_all_the_time() {
    in_own_process!("orphans_are_reaped_while_children_are_started_all_the_time");
    let watcher = subreaper();
    let orphans = watcher.orphans(100).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let child = watcher.spawn(&mut Command::new("true")).unwrap();
                    assert!(child.wait().unwrap().success());
                }
            });
        }
        for _ in 0..10 {
            let child = watcher
                .spawn(&mut leader("(sleep 0.01; exit 1) & exit 0"))
                .unwrap();
            assert!(child.wait().unwrap().success());
            let tagged = orphans.recv_timeout(TEST_TIMEOUT).unwrap().unwrap();
            assert_eq!(tagged.exit.outcome(), Outcome::Exited(1));
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn without_its_receiver_a_queue_delays_no_orphan() {
    in_own_process!("without_its_receiver_a_queue_delays_no_orphan");
    let watcher = subreaper();
    drop(watcher.orphans(1).unwrap());
    let script = "for i in 1 2 3 4 5; do (sleep 0.02; exit $i) & done; exit 0";
    watcher.spawn(&mut leader(script)).unwrap().wait().unwrap();
    until_stats(&watcher, "all are reaped", |stats| stats.orphans == 5);
}
