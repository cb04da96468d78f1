//! Watches that are given up: what they cost, and what goes on meanwhile.

mod common;

use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;
use std::sync::mpsc;

use common::*;
use exitring::{Outcome, WatchError, Watcher};

/// As many watches of this process as the backend and this machine allow, of those asked for.
fn watches(watcher: &Watcher, count: usize) -> Vec<exitring::Watch> {
    let mut watches = Vec::new();
    for _ in 0..count {
        match watcher.watch(std::process::id()) {
            Ok(watch) => watches.push(watch),
            // With epoll each holds a descriptor.
            Err(WatchError::NoDescriptors(_)) => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(!watches.is_empty());
    watches
}

#[test]
fn thousands_given_up_at_once_free_their_places_and_delay_no_exit_for_good() {
    if !alone() {
        return run_alone(
            "thousands_given_up_at_once_free_their_places_and_delay_no_exit_for_good",
            |_| (),
        );
    }
    let watcher = Watcher::new().unwrap();
    let mut child = Obedient::spawn();
    let watch = watcher.watch(child.pid()).unwrap();
    let given_up = watches(&watcher, 50_000);
    until_stats(&watcher, "all are armed", |stats| {
        stats.armed == stats.watched
    });
    drop(given_up);
    child.exit(5);
    let exit = watch.wait_timeout(FOREVER).unwrap();
    assert_eq!(exit.map(|exit| exit.outcome()), Some(Outcome::Exited(5)));
    until_stats(&watcher, "no place is taken", |stats| {
        stats.watched == 0 && stats.armed == 0
    });
    // And the polls that were left in the kernel go, too; nothing spins when they have gone.
    let mut enters = u64::MAX;
    until("the ring thread sleeps", || {
        let before = std::mem::replace(&mut enters, watcher.stats().enters);
        std::thread::sleep(std::time::Duration::from_millis(20));
        before == enters
    });
}

#[test]
fn a_limit_of_watches_counts_none_that_were_given_up() {
    let watcher = Watcher::builder().max_watches(8).build().unwrap();
    for _ in 0..2_000 {
        let mut watch = None;
        // The ring thread may have to come to the last one first.
        until("there is a place", || {
            watch = match watcher.watch(std::process::id()) {
                Err(WatchError::TooMany { limit: 8 }) => None,
                watched => Some(watched.unwrap()),
            };
            watch.is_some()
        });
    }
    until_stats(&watcher, "none is left", |stats| stats.watched == 0);
}

#[test]
fn a_process_whose_watches_were_given_up_may_end_and_be_watched_again() {
    let watcher = Watcher::new().unwrap();
    for _ in 0..200 {
        let mut child = Obedient::spawn();
        let pid = child.pid();
        drop(watches(&watcher, 1));
        for _ in 0..5 {
            drop(watcher.watch(pid).unwrap());
        }
        // The abandoned polls complete by themselves, or are removed: either way a new watch is another one.
        child.exit(3);
        let watch = watcher.watch(pid).unwrap();
        let exit = watch.wait_timeout(FOREVER).unwrap().expect("it ended");
        assert_eq!(exit.outcome(), Outcome::Exited(3));
        child.reap();
    }
    until_stats(&watcher, "none is left", |stats| stats.watched == 0);
}

#[test]
fn a_watcher_with_thousands_given_up_and_armed_gives_back_what_it_has() {
    if !alone() {
        return run_alone(
            "a_watcher_with_thousands_given_up_and_armed_gives_back_what_it_has",
            |_| (),
        );
    }
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = descriptors();
    for drop_watches_first in [true, false] {
        let watcher = Watcher::new().unwrap();
        let held = watches(&watcher, 20_000);
        if drop_watches_first {
            drop(held);
            drop(watcher);
        } else {
            drop(watcher);
            drop(held);
        }
        assert_eq!(descriptors(), before);
    }
    // Dropped in a callback of its own, it leaves no descriptor either.
    for workers in [0, 1] {
        let watcher = Watcher::builder().workers(workers).build().unwrap();
        let held = watches(&watcher, 100);
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
        until("all descriptors are closed", || descriptors() == before);
        drop((held, ended));
    }
}

/// A tracer keeps the status from us, and meanwhile there is no descriptor: the watch is in line for one, or rests, when
/// it is given up.
#[test]
fn a_watch_given_up_while_its_status_is_kept_back_is_gone_all_the_same() {
    if !alone() {
        return run_alone(
            "a_watch_given_up_while_its_status_is_kept_back_is_gone_all_the_same",
            |_| (),
        );
    }
    for without_descriptors in [false, true] {
        let watcher = Watcher::new().unwrap();
        // SAFETY: the children make system calls only.
        let traced = Paused(unsafe { fork_paused(|| ()) });
        // SAFETY: likewise.
        let tracer = Paused(unsafe {
            fork_paused(|| {
                libc::ptrace(libc::PTRACE_SEIZE, traced.0, 0, 0);
            })
        });
        let status = format!("/proc/{}/status", traced.0);
        until("it is traced", || {
            let status = std::fs::read_to_string(&status).unwrap();
            !status.contains("TracerPid:\t0\n")
        });
        let watch = watcher.watch(traced.0).unwrap();
        until_stats(&watcher, "it is armed", |stats| stats.armed == 1);
        let mut taken = Vec::new();
        if without_descriptors {
            // SAFETY: no pointers, and what is made is nobody else's.
            let dup = || unsafe {
                let fd = libc::dup(0);
                (fd >= 0).then(|| OwnedFd::from_raw_fd(fd))
            };
            taken.extend(std::iter::from_fn(dup));
        }
        // SAFETY: a child of ours that is not reaped.
        unsafe { libc::kill(traced.0, libc::SIGKILL) };
        until("it is a zombie", || {
            is_zombie(watch.pid()) || without_descriptors
        });
        drop(watch);
        until_stats(&watcher, "it is gone", |stats| stats.watched == 0);
        drop(taken);
        // The tracer first: it holds the other one's end back.
        drop(tracer);
    }
}

/// A child that pauses until it is killed, and is killed and reaped when this is dropped.
struct Paused(i32);

impl Drop for Paused {
    fn drop(&mut self) {
        // SAFETY: a child of ours; no status is wanted.
        unsafe {
            libc::kill(self.0, libc::SIGKILL);
            libc::waitpid(self.0, std::ptr::null_mut(), 0);
        }
    }
}

/// # Safety
///
/// `first` makes system calls only.
unsafe fn fork_paused(first: impl FnOnce()) -> i32 {
    // SAFETY: the child makes system calls only.
    unsafe {
        match libc::fork() {
            0 => {
                first();
                loop {
                    libc::pause();
                }
            }
            pid => pid,
        }
    }
}
