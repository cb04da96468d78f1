//! Signals and deadlines of owned children.

mod common;

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::descriptor_limit;
use exitring::{Child, Outcome, SignalError, Watcher};

fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

#[test]
fn signals_reach_the_child_until_its_exit_is_seen() {
    let watcher = Watcher::new().unwrap();
    let child = watcher.spawn(Command::new("sleep").arg("1000")).unwrap();
    child.signal(0).unwrap();
    assert!(matches!(
        child.signal(12345),
        Err(SignalError::NoSuchSignal(12345))
    ));
    assert!(matches!(
        child.signal_group(libc::SIGTERM),
        Err(SignalError::NoGroup)
    ));
    child.signal(libc::SIGTERM).unwrap();
    let outcome = Outcome::Signaled {
        signal: libc::SIGTERM,
        core_dumped: false,
    };
    assert_eq!(child.wait().unwrap().outcome(), outcome);
    assert!(matches!(
        child.signal(libc::SIGKILL),
        Err(SignalError::Exited)
    ));
    assert!(child.kill().is_ok(), "that it has ended is what was wanted");
    assert!(matches!(
        child.signal_group(libc::SIGTERM),
        Err(SignalError::Exited)
    ));
    assert_eq!(child.deadline(Duration::ZERO, Duration::ZERO), Ok(()));
    assert!(!child.wait().unwrap().by_deadline());
}

/// A child that leads a group with a grandchild, both deaf to `SIGTERM` if asked; its standard
/// output ends when both have.
fn group(watcher: &Watcher, deaf: bool) -> Child {
    let trap = if deaf { "trap '' TERM; " } else { "" };
    let mut command = sh(&format!("{trap}sleep 1000 & echo ready; wait; sleep 1000"));
    command.process_group(0).stdout(Stdio::piped());
    let mut child = watcher.spawn(&mut command).unwrap();
    let mut ready = [0; 6];
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut ready)
        .unwrap();
    child
}

#[track_caller]
fn assert_group_ended(child: Child) {
    let mut rest = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut rest).unwrap();
}

#[test]
fn a_signal_to_the_group_reaches_the_grandchildren() {
    let watcher = Watcher::new().unwrap();
    let child = group(&watcher, false);
    child.signal_group(libc::SIGTERM).unwrap();
    child.wait().unwrap();
    assert_group_ended(child);
}

#[test]
fn a_deadline_terminates_the_group_and_kills_what_is_deaf() {
    let watcher = Watcher::new().unwrap();
    for (deaf, signal) in [(false, libc::SIGTERM), (true, libc::SIGKILL)] {
        let child = group(&watcher, deaf);
        child
            .deadline(Duration::from_millis(10), Duration::from_millis(50))
            .unwrap();
        let exit = child.wait().unwrap();
        assert!(exit.by_deadline());
        let outcome = Outcome::Signaled {
            signal,
            core_dumped: false,
        };
        assert_eq!(exit.outcome(), outcome);
        assert_group_ended(child);
    }
}

/// A child that leads a group and ends of `SIGTERM`, and a grandchild that runs `script` and holds its standard output.
fn leader_of(watcher: &Watcher, script: &str) -> Child {
    // The leader is ready only when the other is: what comes before the trap would end it.
    let mut command = sh(&format!("({script}) & wait"));
    command.process_group(0).stdout(Stdio::piped());
    let mut child = watcher.spawn(&mut command).unwrap();
    let mut ready = [0; 6];
    let stdout = child.stdout.as_mut().unwrap();
    stdout.read_exact(&mut ready).unwrap();
    child
}

const DEAF: &str = "trap '' TERM; echo ready; sleep 1000";

#[test]
fn who_outlives_the_leader_of_the_group_is_killed_after_the_grace() {
    let watcher = Watcher::new().unwrap();
    let child = leader_of(&watcher, DEAF);
    let grace = Duration::from_millis(50);
    child.deadline(Duration::ZERO, grace).unwrap();
    let exit = child.wait().unwrap();
    assert!(exit.by_deadline());
    assert_group_ended(child);
}

#[test]
fn who_outlives_the_leader_of_the_group_is_killed_also_if_a_thief_reaped_that() {
    let watcher = Watcher::new().unwrap();
    let child = leader_of(&watcher, DEAF);
    let pid = child.pid().as_raw();
    let thief = std::thread::spawn(move || {
        // SAFETY: a null pointer where nothing is to be told.
        unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) }
    });
    let grace = Duration::from_millis(50);
    child.deadline(Duration::from_millis(10), grace).unwrap();
    assert!(child.wait().unwrap().by_deadline());
    thief.join().unwrap();
    assert_group_ended(child);
}

#[test]
fn a_later_deadline_also_holds_for_who_outlives_the_leader_of_the_group() {
    let watcher = Watcher::new().unwrap();
    // The other one tells of each `SIGTERM`, and ends of none; nor does the leader.
    let tells = "trap 'echo term!' TERM; echo ready; while true; do sleep 0.01; done";
    let mut command = sh(&format!("({tells}) & trap '' TERM; echo ready; read line"));
    command
        .process_group(0)
        .stdout(Stdio::piped())
        .stdin(Stdio::piped());
    let mut child = watcher.spawn(&mut command).unwrap();
    let stdin = child.stdin.take();
    let read_line = |child: &mut Child| {
        let mut line = [0; 6];
        child
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut line)
            .unwrap();
        line
    };
    for _ in 0..2 {
        assert_eq!(&read_line(&mut child), b"ready\n");
    }
    child
        .deadline(Duration::ZERO, Duration::from_secs(1000))
        .unwrap();
    assert_eq!(&read_line(&mut child), b"term!\n");
    child
        .deadline(Duration::from_millis(20), Duration::from_millis(20))
        .unwrap();
    // It reads the end of its input, and ends by itself, with the other left in its group.
    drop(stdin);
    assert!(child.wait().unwrap().by_deadline());
    assert_group_ended(child);
}

#[test]
fn who_outlives_the_leader_of_the_group_has_the_rest_of_the_grace() {
    let watcher = Watcher::new().unwrap();
    let child = leader_of(&watcher, CLEANING);
    child
        .deadline(Duration::ZERO, Duration::from_secs(1000))
        .unwrap();
    assert!(child.wait().unwrap().by_deadline());
    let mut rest = String::new();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "clean\n");
}

#[test]
fn who_outlives_the_leader_of_the_group_is_killed_when_the_watcher_is_dropped() {
    let watcher = Watcher::new().unwrap();
    let child = leader_of(&watcher, DEAF);
    child
        .deadline(Duration::ZERO, Duration::from_secs(1000))
        .unwrap();
    assert!(child.wait().unwrap().by_deadline());
    drop(watcher);
    assert_group_ended(child);
}

/// Cleans up for a moment when it is sent `SIGTERM`.
const CLEANING: &str =
    "trap 'sleep 0.05; echo clean; exit' TERM; echo ready; while true; do sleep 0.2; done";

#[test]
fn a_group_is_in_grace_until_its_last_process_has_ended() {
    let watcher = Watcher::new().unwrap();
    let child = leader_of(&watcher, CLEANING);
    assert!(!child.group_in_grace());
    child
        .deadline(Duration::ZERO, Duration::from_secs(1000))
        .unwrap();
    child.wait().unwrap();
    while child.group_in_grace() {
        std::thread::sleep(Duration::from_millis(5));
    }
    // So it has written all, and reading it waits for nobody.
    let stdout = child.stdout.take().unwrap();
    assert_eq!(rustix::io::ioctl_fionread(&stdout).unwrap(), 6);
}

#[test]
fn a_group_in_grace_whose_leader_has_ended_is_killed_by_a_deadline_of_now() {
    let watcher = Watcher::new().unwrap();
    let child = leader_of(&watcher, DEAF);
    child
        .deadline(Duration::ZERO, Duration::from_secs(1000))
        .unwrap();
    child.wait().unwrap();
    assert!(child.group_in_grace());
    child.deadline(Duration::ZERO, Duration::ZERO).unwrap();
    while child.group_in_grace() {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_group_ended(child);
}

#[test]
fn more_groups_than_there_are_descriptors_for_keep_their_grace() {
    let watcher = Watcher::new().unwrap();
    // More than 256, or an eighth of the limit, which is as many as take a descriptor.
    let count = (descriptor_limit() / 8).min(256) + 14;
    let children: Vec<Child> = (0..count).map(|_| leader_of(&watcher, CLEANING)).collect();
    for child in &children {
        child
            .deadline(Duration::ZERO, Duration::from_secs(1000))
            .unwrap();
    }
    for child in children {
        let mut rest = String::new();
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "clean\n");
    }
}

#[test]
fn a_stopped_child_is_said_to_be_stopped_and_heeds_a_deadline() {
    let watcher = Watcher::new().unwrap();
    let mut command = sh("trap 'exit 3' TERM; kill -STOP $$; while true; do sleep 0.01; done");
    let child = watcher.spawn(command.process_group(0)).unwrap();
    while child.stopped().is_none() {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(child.stopped(), Some(libc::SIGSTOP));
    child
        .deadline(Duration::ZERO, Duration::from_secs(1000))
        .unwrap();
    assert_eq!(child.wait().unwrap().outcome(), Outcome::Exited(3));
    assert_eq!(child.stopped(), None);
    assert!(child.deadline_error().is_none());
}

#[test]
fn a_deadline_of_zero_is_now_and_a_later_one_replaces_it() {
    let watcher = Watcher::new().unwrap();
    let child = watcher.spawn(Command::new("sleep").arg("1000")).unwrap();
    child
        .deadline(Duration::from_millis(20), Duration::ZERO)
        .unwrap();
    child
        .deadline(Duration::from_secs(10_000), Duration::ZERO)
        .unwrap();
    assert_eq!(child.wait_timeout(Duration::from_millis(60)), Ok(None));
    // A deadline that never comes replaces one, too.
    child
        .deadline(Duration::from_millis(20), Duration::ZERO)
        .unwrap();
    child.deadline(Duration::MAX, Duration::MAX).unwrap();
    assert_eq!(child.wait_timeout(Duration::from_millis(60)), Ok(None));
    child.deadline(Duration::ZERO, Duration::MAX).unwrap();
    assert!(child.wait().unwrap().by_deadline());
}

#[test]
fn a_child_that_ends_before_its_deadline_was_not_ended_by_it() {
    let watcher = Watcher::new().unwrap();
    let child = watcher.spawn(&mut sh("exit 1")).unwrap();
    let _ = child.deadline(Duration::from_secs(1000), Duration::ZERO);
    assert!(!child.wait().unwrap().by_deadline());
}

#[test]
fn a_thousand_deadlines_are_kept_each() {
    let watcher = Watcher::new().unwrap();
    let mut children: Vec<Child> = (0..1000)
        .map(|_| {
            // SAFETY: the child makes system calls only.
            let pid = unsafe {
                let pid = libc::fork();
                if pid == 0 {
                    libc::signal(libc::SIGTERM, libc::SIG_DFL);
                    loop {
                        libc::pause();
                    }
                }
                pid
            };
            watcher.adopt_pid(pid).unwrap()
        })
        .collect();
    for (index, child) in children.iter_mut().enumerate() {
        child.kill_on_drop(true);
        // Every tenth is spared.
        let millis = if index % 10 == 0 {
            1_000_000
        } else {
            index as u64 % 100
        };
        child
            .deadline(Duration::from_millis(millis), Duration::from_secs(1000))
            .unwrap();
    }
    for (index, child) in children.iter().enumerate() {
        if index % 10 == 0 {
            assert_eq!(child.exit(), None);
            child.kill().unwrap();
        }
        assert_eq!(child.wait().unwrap().by_deadline(), index % 10 != 0);
    }
}
