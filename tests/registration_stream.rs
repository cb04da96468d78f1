//! Registrations that follow one another quickly: callers then add pidfds to an epoll instead of
//! waking the ring thread.

#![allow(unsafe_code, reason = "fork_watchable is unsafe")]

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use exitring::{Outcome, Watcher};

const TIMEOUT: Duration = Duration::from_secs(60);

/// Waits until all watches that are left are armed, and returns how many descriptors the watcher
/// holds then.
fn descriptors_at_rest(watcher: &Watcher) -> u64 {
    let until = Instant::now() + TIMEOUT;
    loop {
        let stats = watcher.stats();
        if stats.armed == stats.watched {
            // The descriptors of the last ones may still be counted.
            let later = watcher.stats();
            if later.descriptors <= 4 + later.watched || Instant::now() > until {
                return later.descriptors;
            }
        }
        assert!(Instant::now() < until, "{stats:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn each_of_many_short_lived_children_is_delivered_once() {
    const THREADS: u64 = 3;
    const CHILDREN: u64 = 60;
    for workers in [0, 2] {
        let watcher = Watcher::builder()
            .workers(workers)
            .build()
            .expect("a watcher can be built");
        let idle = watcher.stats().descriptors;
        let delivered = Arc::new(AtomicU64::new(0));
        let codes = Arc::new(AtomicU64::new(0));
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for number in 0..CHILDREN {
                        let code = number % 7;
                        let mut shell = Command::new("sh");
                        shell.args(["-c", &format!("exit {code}")]);
                        let child = watcher.spawn(&mut shell).expect("sh starts");
                        let (delivered, codes) = (Arc::clone(&delivered), Arc::clone(&codes));
                        let added = child.on_exit(move |exit| {
                            delivered.fetch_add(1, Ordering::SeqCst);
                            if let Outcome::Exited(code) = exit.outcome() {
                                codes.fetch_add(code as u64, Ordering::SeqCst);
                            }
                        });
                        added.expect("the watcher lives");
                        match number % 3 {
                            0 => assert_eq!(
                                child.wait().map(|exit| exit.outcome()),
                                Ok(Outcome::Exited(code as i32))
                            ),
                            _ => drop(child),
                        }
                    }
                });
            }
        });
        let until = Instant::now() + TIMEOUT;
        while delivered.load(Ordering::SeqCst) < THREADS * CHILDREN && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
        }
        let expected: u64 = (0..CHILDREN).map(|number| number % 7).sum();
        assert_eq!(codes.load(Ordering::SeqCst), THREADS * expected);
        let stats = watcher.stats();
        assert_eq!(stats.delivered, THREADS * CHILDREN, "{stats:?}");
        assert_eq!(stats.watched, 0, "{stats:?}");
        assert_eq!(descriptors_at_rest(&watcher), idle);
    }
}

#[test]
fn children_that_live_on_are_armed_without_further_registrations() {
    let watcher = Watcher::new().expect("a watcher can be built");
    if watcher.stats().backend != "io_uring" {
        // Other backends hold a descriptor for each watch, or have none for it.
        return;
    }
    let children: Vec<_> = (0..100)
        .map(|_| {
            let mut sleep = Command::new("sleep");
            watcher.spawn(sleep.arg("1000")).expect("sleep starts")
        })
        .collect();
    // Before Linux 6.9 too: the children are ours to reap.
    assert!(descriptors_at_rest(&watcher) <= 4);
    for child in &children {
        child.kill().expect("it lives");
    }
    for child in &children {
        let exit = child.wait().expect("the watcher lives");
        assert!(matches!(
            exit.outcome(),
            Outcome::Signaled { signal: 9, .. }
        ));
    }
}

/// A forked child has copies of the pidfds of new watches, which keep them in the epoll.
#[test]
fn forked_children_that_hold_copies_of_pidfds_cause_no_second_exit() {
    let watcher = Watcher::new().expect("a watcher can be built");
    if watcher.stats().backend == "threads" {
        // Only owned children can be watched.
        return;
    }
    let delivered = Arc::new(AtomicU64::new(0));
    let mut holders = Vec::new();
    for number in 0..60 {
        // SAFETY: the children make system calls only.
        let watch = unsafe {
            watcher.fork_watchable(|| {
                if number % 4 == 0 {
                    libc::pause();
                }
                libc::_exit(3);
            })
        };
        let watch = watch.expect("it forks");
        let counter = Arc::clone(&delivered);
        let added = watch.on_exit(move |_| {
            counter.fetch_add(1, Ordering::SeqCst);
        });
        added.expect("the watcher lives");
        match number % 4 {
            0 => holders.push(watch),
            _ => {
                let exit = watch.wait().expect("the watcher lives");
                assert_eq!(exit.outcome(), Outcome::Exited(3));
                reap(watch.pid().as_raw());
            }
        }
    }
    for holder in &holders {
        let pid = holder.pid().as_raw();
        // SAFETY: the child is not reaped, so the pid is its own.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0);
        assert!(holder.wait().is_ok());
        reap(pid);
    }
    let until = Instant::now() + TIMEOUT;
    while watcher.stats().callbacks < 60 && Instant::now() < until {
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(delivered.load(Ordering::SeqCst), 60);
    assert_eq!(watcher.stats().delivered, 60);
}

fn reap(pid: i32) {
    // SAFETY: the pointer may be null.
    assert_eq!(unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) }, pid);
}

#[test]
fn dropped_watches_of_a_stream_leave_nothing_behind() {
    let watcher = Watcher::new().expect("a watcher can be built");
    if watcher.stats().backend == "threads" {
        // Only owned children can be watched.
        return;
    }
    let idle = watcher.stats().descriptors;
    let mut sleep = Command::new("sleep")
        .arg("1000")
        .spawn()
        .expect("sleep starts");
    for _ in 0..2000 {
        drop(watcher.watch(sleep.id()).expect("it lives"));
    }
    let until = Instant::now() + TIMEOUT;
    while watcher.stats().watched > 0 && Instant::now() < until {
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(watcher.stats().watched, 0);
    assert_eq!(descriptors_at_rest(&watcher), idle);
    sleep.kill().expect("it lives");
    sleep.wait().expect("it is our child");
}
