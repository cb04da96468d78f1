//! Fails every injectable call, with each errno that it documents, at each of its first calls, once
//! and repeatedly, on each backend.
//!
//! Whatever fails: errors name what ran out, each process that is watched all the same gets its
//! exit, each callback runs once, no descriptor and no zombie is left, and the watcher works
//! afterwards or reports its death.

#![allow(unsafe_code)]

mod exercise;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::{Plan, set_plan};
use crate::{Backend, Outcome, Watcher};

/// No operation that works takes so long.
const TIMEOUT: Duration = Duration::from_secs(20);
const BACKEND_VARIABLE: &str = "EXITRING_TEST_ALONE";

/// The calls, the backends that make them, and the errnos that they fail with.
const FAULTS: [(&str, &[&str], &[i32]); 18] = [
    ("eventfd", &ALL, &[libc::EMFILE, libc::ENFILE, libc::ENOMEM]),
    ("clone", &ALL, &[libc::EAGAIN]),
    ("fork", &PIDFDS, &[libc::EAGAIN, libc::ENOMEM]),
    ("vfork", &ALL, &[libc::EAGAIN, libc::ENOMEM, libc::EMFILE]),
    (
        "clone3",
        &ALL,
        &[libc::EAGAIN, libc::EPERM, libc::ENOSYS, libc::EINVAL],
    ),
    ("pipe2", &ALL, &[libc::EMFILE, libc::ENFILE]),
    ("socketpair", &PIDFDS, &[libc::EMFILE, libc::ENFILE]),
    (
        "pidfd_open",
        &PIDFDS,
        &[libc::EMFILE, libc::ENFILE, libc::ENOMEM],
    ),
    ("fcntl", &["uring", "threads"], &[libc::EMFILE]),
    (
        "io_uring_setup",
        &["uring"],
        &[
            libc::EMFILE,
            libc::ENFILE,
            libc::ENOMEM,
            libc::EPERM,
            libc::ENOSYS,
        ],
    ),
    (
        "io_uring_register",
        &["uring"],
        &[libc::EMFILE, libc::ENOMEM, libc::EBUSY],
    ),
    (
        "io_uring_enter",
        &["uring"],
        &[libc::EAGAIN, libc::EBUSY, libc::EINTR, libc::EBADR],
    ),
    ("POLL_ADD", &["uring"], &[libc::ENOMEM]),
    (
        "FIXED_FD_INSTALL",
        &["uring"],
        &[libc::EMFILE, libc::ENFILE],
    ),
    (
        "epoll_create1",
        &["epoll"],
        &[libc::EMFILE, libc::ENFILE, libc::ENOMEM],
    ),
    ("wake", &["uring"], &[libc::ENOMEM]),
    ("epoll_ctl", &["epoll"], &[libc::ENOMEM, libc::ENOSPC]),
    ("epoll_wait", &["epoll"], &[libc::EINTR]),
];
const PIDFDS: [&str; 2] = ["uring", "epoll"];
const ALL: [&str; 3] = ["uring", "epoll", "threads"];

#[test]
fn a_failing_call_loses_no_exit_and_leaks_nothing() {
    let test = "faults::tests::a_failing_call_loses_no_exit_and_leaks_nothing";
    let Some(backend) = std::env::var_os(BACKEND_VARIABLE) else {
        // Descriptors and zombies are counted, so each backend has its own process.
        for backend in ALL {
            let mut command = Command::new(std::env::current_exe().expect("we run"));
            command.args(["--exact", test, "--nocapture"]);
            command
                .env(BACKEND_VARIABLE, backend)
                .env("EXITRING_BACKEND", backend);
            let output = command.output().expect("it starts");
            let text = String::from_utf8_lossy(&output.stdout);
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{backend}: {text}\n{error}");
            assert!(text.contains("1 passed"), "{text}");
        }
        return;
    };
    let backend = backend.to_str().expect("set above");
    for (call, backends, errnos) in FAULTS {
        if !backends.contains(&backend) {
            continue;
        }
        let mut failures = 0;
        for &errno in errnos {
            for after in 0..8 {
                for times in [1, 2, 60] {
                    failures += run_case(backend, call, errno, after, times);
                }
            }
        }
        assert!(failures > 0, "{backend}: {call} is not called");
    }
}

fn plan(call: &'static str, errno: i32, after: u32, times: u32) -> Arc<Plan> {
    Arc::new(Plan {
        call,
        errno,
        after: AtomicU32::new(after),
        times: AtomicU32::new(times),
        failures: AtomicU32::new(0),
    })
}

#[test]
fn a_full_epoll_still_reports_an_exit() {
    // Opening the backend adds to the epoll twice.
    let fault = plan("epoll_ctl", libc::ENOSPC, 2, u32::MAX);
    set_plan(Some(Arc::clone(&fault)));
    let watcher = Watcher::builder().backend(Backend::Epoll).build();
    set_plan(None);
    let watcher = watcher.expect("the eventfd fits");
    let mut command = Command::new("sh");
    let mut child = command
        .args(["-c", "sleep 0.1; exit 3"])
        .spawn()
        .expect("sh starts");
    let watch = watcher.watch(child.id()).expect("it has a pidfd");
    let exit = watch.wait_timeout(TIMEOUT).expect("the watcher lives");
    let exit = exit.expect("it arrives");
    assert_eq!(exit.outcome(), Outcome::Exited(3));
    assert!(fault.failures.load(Ordering::SeqCst) > 0);
    assert!(child.wait().is_ok());
}

#[test]
fn a_watch_that_is_armed_after_a_delay_is_counted() {
    for backend in [Backend::Uring, Backend::Epoll, Backend::Threads] {
        let watcher = Watcher::builder().backend(backend);
        let (call, errno) = match backend {
            Backend::Threads => ("clone", libc::EAGAIN),
            _ => ("pidfd_open", libc::EMFILE),
        };
        let refused = plan(call, errno, u32::MAX, 0);
        set_plan(Some(Arc::clone(&refused)));
        let watcher = watcher.build();
        set_plan(None);
        let Ok(watcher) = watcher else {
            eprintln!("skipped: no {backend:?} here");
            continue;
        };
        let sleep = Command::new("sleep").arg("1000").spawn();
        let sleep = sleep.expect("sleep starts");
        // Otherwise this thread opens the pidfd.
        wait_until("the ring thread sleeps", || {
            !watcher.shared().mailbox.wants_pidfd_of_child()
        });
        // Each attempt of the ring thread makes at most three calls.
        refused.times.store(7, Ordering::SeqCst);
        refused.after.store(0, Ordering::SeqCst);
        let child = watcher.adopt(sleep).expect("it is our child");
        // The ring thread sleeps by then, and nothing else wakes it.
        wait_until("it is armed", || watcher.stats().armed == 1);
        assert_eq!(refused.failures.load(Ordering::SeqCst), 7);
        child.kill().expect("it lives");
        child.wait().expect("the watcher lives");
    }
}

#[test]
fn orphans_are_reaped_once_a_thread_can_be_started() {
    // The first thread is the watcher's own.
    let fault = plan("clone", libc::EAGAIN, 1, 1);
    set_plan(Some(Arc::clone(&fault)));
    let watcher = Watcher::builder().workers(0).build();
    set_plan(None);
    let watcher = watcher.expect("it has its thread");
    let child = watcher.spawn(Command::new("sleep").arg("1000"));
    let child = child.expect("sleep starts");
    drop(watcher);
    assert_eq!(fault.failures.load(Ordering::SeqCst), 1);
    child.kill().expect("it lives");
    let another = Watcher::new().expect("there are threads again");
    let pid = child.pid().as_raw();
    // SAFETY: no pointers.
    wait_until("it is reaped", || unsafe { libc::kill(pid, 0) } == -1);
    drop(another);
}

#[test]
fn a_watcher_ends_although_every_enter_fails() {
    let refused = plan("io_uring_enter", libc::EAGAIN, u32::MAX, u32::MAX);
    set_plan(Some(Arc::clone(&refused)));
    let watcher = Watcher::builder().backend(Backend::Uring).build();
    set_plan(None);
    let Ok(watcher) = watcher else {
        eprintln!("skipped: no io_uring here");
        return;
    };
    // Not the watcher's own child, which would become an orphan: another test relies on having
    // none.
    let mut child = Command::new("sleep")
        .arg("1000")
        .spawn()
        .expect("sleep starts");
    refused.after.store(0, Ordering::SeqCst);
    // More than the submission queue can hold.
    let watches: Vec<_> = (0..250)
        .map_while(|_| watcher.watch(child.id()).ok())
        .collect();
    wait_until("it is refused", || {
        refused.failures.load(Ordering::SeqCst) > 10
    });
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        drop(watcher);
        let _ = done.send(());
    });
    ended.recv_timeout(TIMEOUT).expect("the drop returns");
    drop(watches);
    child.kill().expect("the child is ours");
    child.wait().expect("the child is ours");
}

/// Runs one case, and returns how often the call failed.
fn run_case(backend: &str, call: &'static str, errno: i32, after: u32, times: u32) -> u32 {
    let plan = plan(call, errno, after, times);
    let case = format!("{backend}: {call} fails {times} times with {errno} after {after}");
    let before = descriptors();
    set_plan(Some(Arc::clone(&plan)));
    let with_pidfds = backend != "threads";
    // A thread that starts without the plan (after a fallback) runs like any other.
    for workers in [0, 1] {
        exercise::exercise_watcher(&case, errno, workers, with_pidfds);
    }
    set_plan(None);
    wait_until(&format!("{case}: no child is left"), || {
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        // SAFETY: a null pointer, and nothing is reaped.
        unsafe { libc::waitid(libc::P_ALL, 0, std::ptr::null_mut(), flags) == -1 }
    });
    wait_until(&format!("{case}: descriptors are closed"), || {
        descriptors() == before
    });
    plan.failures.load(Ordering::SeqCst)
}

fn descriptors() -> usize {
    let open = std::fs::read_dir("/proc/self/fd").expect("proc is mounted");
    open.count()
}

#[track_caller]
fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < TIMEOUT, "timed out: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
