//! Signals to owned children, and their deadlines.

mod common;

use std::os::unix::process::CommandExt;
use std::time::Duration;

use common::*;
use exitring::{Child, Outcome, SignalError, Watcher};

#[test]
fn signals_reach_the_child_until_its_exit_is_seen() {
    let watcher = Watcher::new().unwrap();
    let child = watcher.spawn(&mut sleep()).unwrap();
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
    assert_eq!(child.wait().unwrap().outcome(), signaled(libc::SIGTERM));
    assert!(matches!(
        child.signal(libc::SIGKILL),
        Err(SignalError::Exited)
    ));
    assert!(child.kill().is_ok(), "it has ended, as requested");
    assert!(matches!(
        child.signal_group(libc::SIGTERM),
        Err(SignalError::Exited)
    ));
    assert_eq!(child.deadline(Duration::ZERO, Duration::ZERO), Ok(()));
    assert!(!child.wait().unwrap().by_deadline());
}

#[test]
fn a_stopped_child_is_reported_as_stopped_and_handles_a_deadline() {
    let watcher = Watcher::new().unwrap();
    let mut command = sh("trap 'exit 3' TERM; kill -STOP $$; while true; do sleep 0.01; done");
    let child = watcher.spawn(command.process_group(0)).unwrap();
    until("the child is stopped", || child.stopped().is_some());
    assert_eq!(child.stopped(), Some(libc::SIGSTOP));
    child
        .deadline(Duration::ZERO, Duration::from_secs(1000))
        .unwrap();
    assert_eq!(child.wait().unwrap().outcome(), Outcome::Exited(3));
    assert_eq!(child.stopped(), None);
    assert!(child.deadline_error().is_none());
}

#[test]
fn a_deadline_of_zero_expires_at_once_and_a_later_call_replaces_a_deadline() {
    let watcher = Watcher::new().unwrap();
    // The second one never expires.
    let later = [Duration::from_secs(10_000), Duration::MAX];
    let children = later.map(|later| {
        let child = watcher.spawn(&mut sleep()).unwrap();
        child
            .deadline(Duration::from_secs(1), Duration::ZERO)
            .unwrap();
        child.deadline(later, Duration::MAX).unwrap();
        child
    });
    for (child, wait_ms) in children.iter().zip([1200, 0]) {
        let wait = Duration::from_millis(wait_ms);
        assert_eq!(child.wait_timeout(wait), Ok(None));
        child.deadline(Duration::ZERO, Duration::MAX).unwrap();
        assert!(child.wait().unwrap().by_deadline());
    }
}

#[test]
fn an_exit_before_the_deadline_is_not_attributed_to_it() {
    let watcher = Watcher::new().unwrap();
    let child = watcher.spawn(&mut sh("exit 1")).unwrap();
    let _ = child.deadline(Duration::from_secs(1000), Duration::ZERO);
    assert!(!child.wait().unwrap().by_deadline());
}

#[test]
fn each_of_a_thousand_deadlines_is_kept() {
    let watcher = Watcher::new().unwrap();
    let mut children: Vec<Child> = (0..1000)
        .map(|_| {
            // SAFETY: the child makes system calls only.
            let pid = unsafe {
                fork(|| {
                    libc::signal(libc::SIGTERM, libc::SIG_DFL);
                    pause()
                })
            };
            watcher.adopt_pid(pid).unwrap()
        })
        .collect();
    for (index, child) in children.iter_mut().enumerate() {
        child.kill_on_drop(true);
        // Every tenth outlives the test.
        let millis = match index % 10 {
            0 => 1_000_000,
            _ => index as u64 % 100,
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
