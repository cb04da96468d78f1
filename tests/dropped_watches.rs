//! Watches that are dropped before the exit: what they release, and what they must not block.

mod common;

use std::sync::mpsc;
use std::time::Duration;

use common::*;
use exitring::{Outcome, Pid, Watch, WatchError, Watcher};

/// Creates watches of this process: `count`, or as many as the backend and this machine allow.
fn watch_this_process(watcher: &Watcher, count: usize) -> Vec<Watch> {
    let mut watches = Vec::new();
    for _ in 0..count {
        match watcher.watch(std::process::id()) {
            Ok(watch) => watches.push(watch),
            // With epoll each watch holds a descriptor.
            Err(WatchError::NoDescriptors(_)) => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(!watches.is_empty());
    watches
}

#[test]
fn thousands_of_watches_dropped_at_once_release_their_permits_and_block_no_exit() {
    if !in_own_process() {
        return run_in_own_process(
            "thousands_of_watches_dropped_at_once_release_their_permits_and_block_no_exit",
            |_| (),
        );
    }
    let watcher = Watcher::new().unwrap();
    let mut child = ControlledChild::spawn();
    let watch = watcher.watch(child.pid()).unwrap();
    let dropped = watch_this_process(&watcher, 50_000);
    until_stats(&watcher, "all are armed", |stats| {
        stats.armed == stats.watched
    });
    drop(dropped);
    child.exit(5);
    let exit = watch.wait_timeout(TEST_TIMEOUT).unwrap();
    assert_eq!(exit.map(|exit| exit.outcome()), Some(Outcome::Exited(5)));
    until_stats(&watcher, "nothing is watched or armed", |stats| {
        stats.watched == 0 && stats.armed == 0
    });
    // The polls that are left in the kernel are removed, too, and the thread does not spin then.
    let mut enters = u64::MAX;
    until("the ring thread sleeps", || {
        let before = std::mem::replace(&mut enters, watcher.stats().enters);
        std::thread::sleep(Duration::from_millis(20));
        before == enters
    });
}

#[test]
fn max_watches_does_not_count_dropped_watches() {
    let watcher = Watcher::builder().max_watches(8).build().unwrap();
    for _ in 0..2_000 {
        let mut watch = None;
        // The ring thread may have to remove the last one first.
        until("a permit is available", || {
            watch = match watcher.watch(std::process::id()) {
                Err(WatchError::TooMany { limit: 8 }) => None,
                watched => Some(watched.unwrap()),
            };
            watch.is_some()
        });
    }
    until_stats(&watcher, "nothing is watched", |stats| stats.watched == 0);
}

#[test]
fn a_process_whose_watches_were_dropped_may_end_and_be_watched_again() {
    let watcher = Watcher::new().unwrap();
    for _ in 0..200 {
        let mut child = ControlledChild::spawn();
        let pid = child.pid();
        drop(watch_this_process(&watcher, 1));
        for _ in 0..5 {
            drop(watcher.watch(pid).unwrap());
        }
        // The polls of dropped watches complete or are removed. In both cases they do not affect a
        // new watch.
        child.exit(3);
        let watch = watcher.watch(pid).unwrap();
        let exit = watch.wait_timeout(TEST_TIMEOUT).unwrap().expect("it ended");
        assert_eq!(exit.outcome(), Outcome::Exited(3));
        child.reap();
    }
    until_stats(&watcher, "nothing is watched", |stats| stats.watched == 0);
}

#[test]
fn a_watcher_with_thousands_of_dropped_or_armed_watches_releases_its_descriptors() {
    if !in_own_process() {
        return run_in_own_process(
            "a_watcher_with_thousands_of_dropped_or_armed_watches_releases_its_descriptors",
            |_| (),
        );
    }
    let before = open_descriptors();
    for drop_watches_first in [true, false] {
        let watcher = Watcher::new().unwrap();
        let held = watch_this_process(&watcher, 20_000);
        if drop_watches_first {
            drop(held);
            drop(watcher);
        } else {
            drop(watcher);
            drop(held);
        }
        assert_eq!(open_descriptors(), before);
    }
    // The same for a watcher that one of its own callbacks drops.
    for workers in [0, 1] {
        let watcher = Watcher::builder().workers(workers).build().unwrap();
        let held = watch_this_process(&watcher, 100);
        let child = zombie(0);
        let ended = watcher.watch(child.pid()).unwrap();
        let (done, dropped) = mpsc::channel();
        ended
            .on_exit(move |_| {
                drop(watcher);
                done.send(()).unwrap();
            })
            .unwrap();
        receive(&dropped);
        drop(child);
        until("all descriptors are closed", || {
            open_descriptors() == before
        });
        drop((held, ended));
    }
}

/// A tracer withholds the status, and there may be no descriptor: the watch is dropped while it
/// waits for a descriptor or for a retry.
#[test]
fn a_watch_dropped_while_its_status_is_withheld_is_removed() {
    if !in_own_process() {
        return run_in_own_process(
            "a_watch_dropped_while_its_status_is_withheld_is_removed",
            |_| (),
        );
    }
    for without_descriptors in [false, true] {
        let watcher = Watcher::new().unwrap();
        let traced = PausedChild::fork(|| ());
        // SAFETY: no pointers.
        let tracer = PausedChild::fork(|| unsafe {
            libc::ptrace(libc::PTRACE_SEIZE, traced.0.as_raw(), 0, 0);
        });
        let status = format!("/proc/{}/status", traced.0);
        until("the child is traced", || {
            let status = std::fs::read_to_string(&status).unwrap();
            !status.contains("TracerPid:\t0\n")
        });
        let watch = watcher.watch(traced.0).unwrap();
        until_stats(&watcher, "it is armed", |stats| stats.armed == 1);
        let mut taken = Vec::new();
        if without_descriptors {
            taken.extend(std::iter::from_fn(duplicate_stdin));
        }
        traced.kill();
        until("the child is a zombie", || {
            is_zombie(watch.pid()) || without_descriptors
        });
        drop(watch);
        until_stats(&watcher, "nothing is watched", |stats| stats.watched == 0);
        drop(taken);
        // The tracer is dropped first: it withholds the end of the other child.
        drop(tracer);
    }
}

/// A child that pauses until it is killed. Killed and reaped when dropped.
struct PausedChild(Pid);

impl PausedChild {
    /// Forks a child that runs `first`, which makes system calls only, and then pauses.
    fn fork(first: impl FnOnce()) -> Self {
        // SAFETY: the child makes system calls only.
        Self(unsafe {
            fork(|| {
                first();
                pause()
            })
        })
    }

    fn kill(&self) {
        // SAFETY: no pointers; the child is not reaped.
        unsafe { libc::kill(self.0.as_raw(), libc::SIGKILL) };
    }
}

impl Drop for PausedChild {
    fn drop(&mut self) {
        self.kill();
        // SAFETY: a null pointer: no status is wanted.
        unsafe { libc::waitpid(self.0.as_raw(), std::ptr::null_mut(), 0) };
    }
}
