//! Owned children: spawned, adopted, dropped and killed.

mod common;

use std::process::{Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use common::*;
use exitring::{Closed, Outcome, Pid, SpawnError, WaitError, WatchError, Watcher};

#[test]
fn a_spawned_child_is_reaped_with_status_and_usage() {
    each_worker_count(|watcher| {
        let child = watcher
            .spawn(&mut sh(
                "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exit 7",
            ))
            .unwrap();
        let exit = child.wait().unwrap();
        assert_eq!(exit.outcome(), Outcome::Exited(7));
        assert_eq!(exit.pid(), child.pid());
        let usage = exit.usage().unwrap();
        assert!(usage.user() + usage.system() > Duration::ZERO);
        assert!(usage.max_rss_bytes() > 100 * 1024);
        assert!(!exit.by_deadline());
        assert!(!exists(child.pid()), "it is reaped before the report");
        let receiver = exit_receiver(&child);
        assert_eq!(receive(&receiver), exit);
        until_stats(&watcher, "nothing is watched", |stats| stats.watched == 0);
    });
}

#[test]
fn without_usage_the_status_is_reported_as_with_it() {
    for workers in [0, 1] {
        let builder = Watcher::builder().workers(workers).usage(false);
        let watcher = builder.build().unwrap();
        let owned = watcher.spawn(&mut sh("exit 7")).unwrap();
        // By a callback, for which a worker may reap.
        let exit = receive(&exit_receiver(&owned));
        assert_eq!((exit.outcome(), exit.usage()), (Outcome::Exited(7), None));

        let mut other = sh("exit 8").spawn().unwrap();
        let exit = watcher.watch(other.id()).unwrap().wait().unwrap();
        assert_eq!((exit.outcome(), exit.usage()), (Outcome::Exited(8), None));
        assert_eq!(other.wait().unwrap().code(), Some(8));

        let zombie = sh("exit 9").spawn().unwrap();
        let pid = Pid::try_from(zombie.id()).unwrap();
        until("it has ended", || is_zombie(pid));
        let exit = watcher.adopt(zombie).unwrap().wait().unwrap();
        assert_eq!((exit.outcome(), exit.usage()), (Outcome::Exited(9), None));
    }
}

#[test]
fn a_dropped_child_keeps_running_and_is_reaped() {
    each_worker_count(|watcher| {
        let child = watcher
            .spawn(sh("read line; exit 3").stdin(Stdio::piped()))
            .unwrap();
        let pid = child.pid();
        let stdin = child.stdin.take().unwrap();
        drop(child);
        std::thread::sleep(Duration::from_millis(10));
        assert!(exists(pid) && !is_zombie(pid));
        drop(stdin);
        until_reaped(pid);
        until_stats(&watcher, "the exit is delivered", |stats| {
            stats.delivered == 1
        });
    });
}

#[test]
fn a_child_with_kill_on_drop_is_killed_and_reaped() {
    let watcher = Watcher::new().unwrap();
    let mut child = watcher.spawn(&mut sleep()).unwrap();
    child.kill_on_drop(true);
    let pid = child.pid();
    drop(child);
    until_reaped(pid);
}

#[test]
fn children_that_outlive_the_watcher_are_reaped() {
    let watcher = Watcher::new().unwrap();
    let kept = watcher
        .spawn(sh("read line; exit 4").stdin(Stdio::piped()))
        .unwrap();
    let dropped = watcher
        .spawn(sh("read line").stdin(Stdio::piped()))
        .unwrap();
    let (kept_stdin, dropped_stdin) = (kept.stdin.take(), dropped.stdin.take());
    let dropped_pid = dropped.pid();
    drop(dropped);
    let mut killed = watcher.spawn(&mut sleep()).unwrap();
    killed.kill_on_drop(true);
    let killed_pid = killed.pid();
    drop(watcher);

    assert_eq!(kept.wait(), Err(WaitError::Closed(Closed::Dropped)));
    assert!(exists(kept.pid()) && exists(dropped_pid));
    drop((kept_stdin, dropped_stdin, killed));
    until_reaped(kept.pid());
    until_reaped(dropped_pid);
    until_reaped(killed_pid);
    until("the exit can be read", || kept.exit().is_some());
    assert_eq!(kept.exit().unwrap().outcome(), Outcome::Exited(4));
}

#[test]
fn a_std_child_is_adopted_while_it_runs_after_its_exit_or_after_its_reap() {
    let watcher = Watcher::new().unwrap();
    let mut running = sh("read line; exit 5")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let stdin = running.stdin.take();
    let child = watcher.adopt(running).unwrap();
    assert_eq!(child.exit(), None);
    drop(stdin);
    assert_eq!(child.wait().unwrap().outcome(), Outcome::Exited(5));
    assert!(!exists(child.pid()));

    let ended = sh("exit 6").stdout(Stdio::piped()).spawn().unwrap();
    let pid = Pid::try_from(ended.id()).unwrap();
    until("it is a zombie", || is_zombie(pid));
    let child = watcher.adopt(ended).unwrap();
    assert!(child.stdout.is_some());
    assert_eq!(child.wait().unwrap().outcome(), Outcome::Exited(6));
    assert!(child.wait().unwrap().usage().is_some());
    assert!(!exists(pid));

    let mut waited = sh("exit 7").spawn().unwrap();
    waited.wait().unwrap();
    let child = watcher.adopt(waited).unwrap();
    assert_eq!(child.wait().unwrap().outcome(), Outcome::Exited(7));
    assert_eq!(child.wait().unwrap().usage(), None);
    let receiver = outcome_receiver(&child);
    assert_eq!(receive(&receiver), Outcome::Exited(7));
    until_stats(&watcher, "nothing is watched", |stats| stats.watched == 0);
}

#[test]
fn a_child_is_adopted_by_its_pid_and_other_processes_are_refused() {
    let watcher = Watcher::new().unwrap();
    #[expect(clippy::zombie_processes, reason = "the watcher reaps it")]
    let child = sh("exit 8").spawn().unwrap();
    let owned = watcher.adopt_pid(child.id()).unwrap();
    assert_eq!(owned.wait().unwrap().outcome(), Outcome::Exited(8));
    for pid in [child.id(), std::os::unix::process::parent_id()] {
        match watcher.adopt_pid(pid) {
            Err(WatchError::NoSuchProcess { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_failed_spawn_reports_the_cause() {
    let watcher = Watcher::new().unwrap();
    match watcher.spawn(&mut Command::new("/no/such/program")) {
        Err(error @ SpawnError::NotFound { .. }) => {
            assert!(error.to_string().contains("/no/such/program"));
            assert!(!error.is_throttling());
        }
        other => panic!("{other:?}"),
    }
    for program in ["/etc/passwd", "/tmp"] {
        match watcher.spawn(&mut Command::new(program)) {
            Err(SpawnError::NotExecutable { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(watcher.stats().watched, 0);
}

#[test]
fn a_child_spawned_in_a_callback_has_the_builders_signal_mask() {
    each_worker_count(|watcher| {
        let watcher = Arc::new(watcher);
        let first = watcher.spawn(&mut sh("exit 0")).unwrap();
        let (sender, receiver) = mpsc::channel();
        first
            .on_exit({
                let watcher = watcher.clone();
                move |_| {
                    let child = watcher.spawn(&mut sleep()).unwrap();
                    sender.send(child).unwrap();
                }
            })
            .unwrap();
        let child = receive(&receiver);
        child.signal(libc::SIGTERM).unwrap();
        let outcome = signaled(libc::SIGTERM);
        assert_eq!(child.wait().unwrap().outcome(), outcome);
    });
}

#[test]
fn kill_and_try_wait_work_before_and_after_the_exit() {
    let watcher = Watcher::new().unwrap();
    let child = watcher.spawn(&mut sleep()).unwrap();
    assert_eq!(child.id(), child.pid().as_raw() as u32);
    assert_eq!(child.try_wait(), Ok(None));
    child.kill().unwrap();
    let exit = child.wait().unwrap();
    child.kill().unwrap();
    assert_eq!(child.try_wait(), Ok(Some(exit.clone())));
    drop(watcher);
    child.kill().unwrap();
    assert_eq!(child.try_wait(), Ok(Some(exit)));

    let watcher = Watcher::new().unwrap();
    let child = watcher.spawn(&mut sleep()).unwrap();
    drop(watcher);
    assert_eq!(child.try_wait(), Err(Closed::Dropped));
    child.kill().unwrap();
}
