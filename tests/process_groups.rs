//! Process groups that an owned child leads: signals, deadlines, and the grace of those processes
//! that outlive the leader.

mod common;

use std::io::{Read, read_to_string};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::*;
use exitring::{Child, Watcher};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Longer than a test takes.
const LONG: Duration = Duration::from_secs(1000);

/// A script that ignores `SIGTERM`.
const IGNORES_SIGTERM: &str = "trap '' TERM; echo ready; sleep 1000";

/// A script that takes a moment to clean up when it gets `SIGTERM`.
const CLEANS_UP: &str =
    "trap 'sleep 0.05; echo clean; exit' TERM; echo ready; while true; do sleep 0.2; done";

/// Spawns a command that leads a group, with its standard output piped, and waits until it writes
/// "ready".
fn spawn_group(watcher: &Watcher, command: &mut Command) -> Child {
    command.process_group(0).stdout(Stdio::piped());
    let mut child = watcher.spawn(command).unwrap();
    assert_eq!(&read_six_bytes(&mut child), b"ready\n");
    child
}

/// A child and a grandchild in a group, which both ignore `SIGTERM` if asked. The child's standard
/// output ends when both have ended.
fn group_of_two(watcher: &Watcher, ignore_sigterm: bool) -> Child {
    let trap = if ignore_sigterm { "trap '' TERM; " } else { "" };
    let mut command = sh(&format!("{trap}sleep 1000 & echo ready; wait; sleep 1000"));
    spawn_group(watcher, &mut command)
}

/// A child that `SIGTERM` ends, and a grandchild in its group that runs `script` and holds the
/// child's standard output open.
fn leader_of(watcher: &Watcher, script: &str) -> Child {
    // The grandchild writes "ready" when both are ready: a `SIGTERM` before its trap would end it.
    spawn_group(watcher, &mut sh(&format!("({script}) & wait")))
}

fn read_six_bytes(child: &mut Child) -> [u8; 6] {
    let mut line = [0; 6];
    let stdout = child.stdout.as_mut().unwrap();
    stdout.read_exact(&mut line).unwrap();
    line
}

/// Waits until every process that holds the child's standard output has ended, and returns what
/// they wrote.
#[track_caller]
fn output_of_group(child: Child) -> String {
    read_to_string(child.stdout.take().unwrap()).unwrap()
}

#[track_caller]
fn until_group_ended(child: Child) {
    output_of_group(child);
}

#[test]
fn a_signal_to_the_group_reaches_the_grandchildren() {
    let watcher = Watcher::new().unwrap();
    let child = group_of_two(&watcher, false);
    child.signal_group(libc::SIGTERM).unwrap();
    child.wait().unwrap();
    until_group_ended(child);
}

#[test]
fn a_deadline_terminates_the_group_and_kills_what_ignores_sigterm() {
    let watcher = Watcher::new().unwrap();
    for (ignore_sigterm, signal) in [(false, libc::SIGTERM), (true, libc::SIGKILL)] {
        let child = group_of_two(&watcher, ignore_sigterm);
        child
            .deadline(Duration::from_millis(10), Duration::from_millis(50))
            .unwrap();
        let exit = child.wait().unwrap();
        assert!(exit.by_deadline());
        assert_eq!(exit.outcome(), signaled(signal));
        until_group_ended(child);
    }
}

#[test]
fn a_process_that_outlives_its_group_leader_is_killed_after_the_grace() {
    let watcher = Watcher::new().unwrap();
    let child = leader_of(&watcher, IGNORES_SIGTERM);
    let grace = Duration::from_millis(50);
    child.deadline(Duration::ZERO, grace).unwrap();
    let exit = child.wait().unwrap();
    assert!(exit.by_deadline());
    until_group_ended(child);
}

#[test]
fn a_process_that_outlives_its_group_leader_is_killed_although_the_leader_was_reaped_elsewhere() {
    let watcher = Watcher::new().unwrap();
    let child = leader_of(&watcher, IGNORES_SIGTERM);
    let pid = child.pid().as_raw();
    let reaper = std::thread::spawn(move || {
        // SAFETY: a null pointer: no status is wanted.
        unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) }
    });
    let grace = Duration::from_millis(50);
    child.deadline(Duration::from_millis(10), grace).unwrap();
    assert!(child.wait().unwrap().by_deadline());
    reaper.join().unwrap();
    until_group_ended(child);
}

#[test]
fn a_later_deadline_applies_to_a_process_that_outlives_its_group_leader() {
    let watcher = Watcher::new().unwrap();
    // The grandchild reports each `SIGTERM`. `SIGTERM` ends neither it nor the leader.
    let reports = "trap 'echo term!' TERM; echo ready; while true; do sleep 0.01; done";
    let mut command = sh(&format!(
        "({reports}) & trap '' TERM; echo ready; read line"
    ));
    let mut child = spawn_group(&watcher, command.stdin(Stdio::piped()));
    let stdin = child.stdin.take();
    // Both are ready now.
    assert_eq!(&read_six_bytes(&mut child), b"ready\n");
    child.deadline(Duration::ZERO, LONG).unwrap();
    assert_eq!(&read_six_bytes(&mut child), b"term!\n");
    child
        .deadline(Duration::from_millis(20), Duration::from_millis(20))
        .unwrap();
    // The leader reads the end of its input and exits, and leaves the grandchild in its group.
    drop(stdin);
    assert!(child.wait().unwrap().by_deadline());
    until_group_ended(child);
}

#[test]
fn a_process_that_outlives_its_group_leader_has_the_rest_of_the_grace() {
    let watcher = Watcher::new().unwrap();
    let child = leader_of(&watcher, CLEANS_UP);
    child.deadline(Duration::ZERO, LONG).unwrap();
    assert!(child.wait().unwrap().by_deadline());
    assert_eq!(output_of_group(child), "clean\n");
}

#[test]
fn a_process_that_outlives_its_group_leader_is_killed_when_the_watcher_is_dropped() {
    let watcher = Watcher::new().unwrap();
    let child = leader_of(&watcher, IGNORES_SIGTERM);
    child.deadline(Duration::ZERO, LONG).unwrap();
    assert!(child.wait().unwrap().by_deadline());
    drop(watcher);
    until_group_ended(child);
}

#[test]
fn a_group_is_in_grace_until_its_last_process_has_ended() {
    let watcher = Watcher::new().unwrap();
    let child = leader_of(&watcher, CLEANS_UP);
    assert!(!child.group_in_grace());
    child.deadline(Duration::ZERO, LONG).unwrap();
    child.wait().unwrap();
    until("the grace is over", || !child.group_in_grace());
    // Everything is written now, and a read does not block.
    let stdout = child.stdout.take().unwrap();
    assert_eq!(rustix::io::ioctl_fionread(&stdout).unwrap(), 6);
}

#[test]
fn a_group_in_grace_whose_leader_has_ended_is_killed_by_a_deadline_of_zero() {
    let watcher = Watcher::new().unwrap();
    let child = leader_of(&watcher, IGNORES_SIGTERM);
    child.deadline(Duration::ZERO, LONG).unwrap();
    child.wait().unwrap();
    assert!(child.group_in_grace());
    child.deadline(Duration::ZERO, Duration::ZERO).unwrap();
    until("the grace is over", || !child.group_in_grace());
    until_group_ended(child);
}

#[test]
fn a_grace_without_an_end_is_ended_by_a_later_deadline_and_not_by_the_watcher() {
    let watcher = Watcher::new().unwrap();
    let child = leader_of(&watcher, IGNORES_SIGTERM);
    child.deadline(Duration::ZERO, Duration::MAX).unwrap();
    child.wait().unwrap();
    assert!(child.group_in_grace());
    child.deadline(Duration::ZERO, Duration::ZERO).unwrap();
    until("the grace is over", || !child.group_in_grace());
    until_group_ended(child);

    let child = leader_of(&watcher, IGNORES_SIGTERM);
    let pid = child.pid();
    child.deadline(Duration::ZERO, Duration::MAX).unwrap();
    child.wait().unwrap();
    drop(watcher);
    // Time to end, if it was killed.
    std::thread::sleep(Duration::from_millis(50));
    let stdout = child.stdout.take().unwrap();
    let mut fds = [PollFd::new(&stdout, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).unwrap();
    assert!(!fds[0].revents().contains(PollFlags::HUP), "it lives");
    // SAFETY: no pointers. The group has a member, so no other group has the number.
    assert_eq!(unsafe { libc::kill(-pid.as_raw(), libc::SIGKILL) }, 0);
}

#[test]
fn groups_keep_their_grace_when_they_outnumber_the_descriptors() {
    let watcher = Watcher::new().unwrap();
    // At most 256 groups, or an eighth of the limit, take a descriptor. These are more.
    let count = (descriptor_limit() / 8).min(256) + 14;
    let children: Vec<Child> = (0..count).map(|_| leader_of(&watcher, CLEANS_UP)).collect();
    for child in &children {
        child.deadline(Duration::ZERO, LONG).unwrap();
    }
    for child in children {
        assert_eq!(output_of_group(child), "clean\n");
    }
}
