//! Every call at the seam fails, with each errno that it documents, at each of its first turns, once and for long; on each
//! backend. Whatever fails: errors say what ran out, each process that is watched all the same gets its exit, each
//! callback runs once, no descriptor and no zombie is left, and the watcher works afterwards or says that it is dead.

#![allow(unsafe_code)]

use std::io::Read;
use std::ops::Deref;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::{Plan, set_plan};
use crate::error::{Closed, ForkError, WaitError};
use crate::{Backend, BuildError, Child, Outcome, Pid, Unknown, Watch, WatchError, Watcher};

/// Nothing that works takes so long.
const FOREVER: Duration = Duration::from_secs(20);
const ALONE: &str = "EXITRING_TEST_ALONE";

/// Where each call is made, and what it says when it fails.
const FAULTS: [(&str, &[&str], &[i32]); 16] = [
    ("eventfd", &ALL, &[libc::EMFILE, libc::ENFILE, libc::ENOMEM]),
    ("clone", &ALL, &[libc::EAGAIN]),
    ("fork", &PIDFDS, &[libc::EAGAIN, libc::ENOMEM]),
    ("vfork", &PIDFDS, &[libc::EAGAIN, libc::ENOMEM]),
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
fn whatever_fails_nothing_is_lost_and_nothing_left() {
    let test = "faults::tests::whatever_fails_nothing_is_lost_and_nothing_left";
    let Some(backend) = std::env::var_os(ALONE) else {
        // Descriptors and zombies are counted, so each has a process of its own.
        for backend in ALL {
            let mut alone = Command::new(std::env::current_exe().expect("we run"));
            alone.args(["--exact", test, "--nocapture"]);
            alone.env(ALONE, backend).env("EXITRING_BACKEND", backend);
            let output = alone.output().expect("it starts");
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
        let mut struck = 0;
        for &errno in errnos {
            for after in 0..8 {
                for times in [1, 2, 60] {
                    struck += strike_one(backend, call, errno, after, times);
                }
            }
        }
        assert!(struck > 0, "{backend}: {call} is not called");
    }
}

fn plan(call: &'static str, errno: i32, after: u32, times: u32) -> Arc<Plan> {
    Arc::new(Plan {
        call,
        errno,
        after: AtomicU32::new(after),
        times: AtomicU32::new(times),
        struck: AtomicU32::new(0),
    })
}

#[test]
fn without_room_in_the_epoll_an_end_is_told_all_the_same() {
    // It is filled twice while it is tried out.
    let full = plan("epoll_ctl", libc::ENOSPC, 2, u32::MAX);
    set_plan(Some(Arc::clone(&full)));
    let watcher = Watcher::builder().backend(Backend::Epoll).build();
    set_plan(None);
    let watcher = watcher.expect("it has room for itself");
    let mut command = Command::new("sh");
    let mut child = command.args(["-c", "exit 3"]).spawn().expect("sh starts");
    let watch = watcher.watch(child.id()).expect("it has a pidfd");
    let exit = watch.wait_timeout(FOREVER).expect("the watcher lives");
    let exit = exit.expect("it is told");
    assert_eq!(exit.outcome(), Outcome::Exited(3));
    assert!(full.struck.load(Ordering::SeqCst) > 0);
    assert!(child.wait().is_ok());
}

#[test]
fn orphans_for_whom_no_thread_could_be_had_are_looked_after_later() {
    // The first thread is the watcher's own.
    let none = plan("clone", libc::EAGAIN, 1, 1);
    set_plan(Some(Arc::clone(&none)));
    let watcher = Watcher::builder().workers(0).build();
    set_plan(None);
    let watcher = watcher.expect("it has its thread");
    let child = watcher.spawn(Command::new("sleep").arg("1000"));
    let child = child.expect("sleep starts");
    drop(watcher);
    assert_eq!(none.struck.load(Ordering::SeqCst), 1);
    child.kill().expect("it lives");
    let another = Watcher::new().expect("there are threads again");
    let pid = child.pid().as_raw();
    // SAFETY: no pointers.
    until("it is reaped", || unsafe { libc::kill(pid, 0) } == -1);
    drop(another);
}

#[test]
fn a_kernel_that_refuses_every_enter_does_not_keep_the_watcher_from_ending() {
    let refuses = plan("io_uring_enter", libc::EAGAIN, u32::MAX, u32::MAX);
    set_plan(Some(Arc::clone(&refuses)));
    let watcher = Watcher::builder().backend(Backend::Uring).build();
    set_plan(None);
    let Ok(watcher) = watcher else {
        eprintln!("no io_uring here: nothing to be shown");
        return;
    };
    // Not the watcher's own, which would be an orphan then: another test counts on there being none.
    let mut child = Command::new("sleep")
        .arg("1000")
        .spawn()
        .expect("sleep starts");
    refuses.after.store(0, Ordering::SeqCst);
    // More than the submission queue has room for.
    let watches: Vec<_> = (0..250)
        .map_while(|_| watcher.watch(child.id()).ok())
        .collect();
    until("it is refused", || {
        refuses.struck.load(Ordering::SeqCst) > 10
    });
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        drop(watcher);
        let _ = done.send(());
    });
    ended.recv_timeout(FOREVER).expect("the drop returns");
    drop(watches);
    child.kill().expect("it is ours");
    child.wait().expect("it is ours");
}

/// How often it struck.
fn strike_one(backend: &str, call: &'static str, errno: i32, after: u32, times: u32) -> u32 {
    let plan = plan(call, errno, after, times);
    let case = format!("{backend}: {call} fails {times} times with {errno} after {after}");
    let before = descriptors();
    set_plan(Some(Arc::clone(&plan)));
    let with_pidfds = backend != "threads";
    // What is built without its plan (by a fallback) is as good as any.
    for workers in [0, 1] {
        live_through(&case, errno, workers, with_pidfds);
    }
    set_plan(None);
    until(&format!("{case}: no child is left"), || {
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        // SAFETY: a null pointer, and nothing is reaped.
        unsafe { libc::waitid(libc::P_ALL, 0, std::ptr::null_mut(), flags) == -1 }
    });
    until(&format!("{case}: descriptors are given back"), || {
        descriptors() == before
    });
    plan.struck.load(Ordering::SeqCst)
}

enum Handle {
    Own(Child),
    Other(Watch),
}

impl Deref for Handle {
    type Target = Watch;

    fn deref(&self) -> &Watch {
        match self {
            Self::Own(child) => child,
            Self::Other(watch) => watch,
        }
    }
}

struct Watched {
    watch: Handle,
    code: i32,
    ran: Arc<AtomicU32>,
}

fn live_through(case: &str, errno: i32, workers: usize, with_pidfds: bool) {
    let watcher = match Watcher::builder().workers(workers).build() {
        Ok(watcher) => watcher,
        Err(error) => return check_build_error(case, errno, &error),
    };
    let (reader, writer) = std::io::pipe().expect("a pipe can be had");
    let fork = |code| {
        // SAFETY: the child makes system calls only, on descriptors that are open.
        let pid = unsafe {
            let pid = libc::fork();
            if pid == 0 {
                libc::close(writer.as_raw_fd());
                let mut byte = 0_u8;
                libc::read(reader.as_raw_fd(), (&raw mut byte).cast(), 1);
                libc::_exit(code);
            }
            pid
        };
        Pid::new(pid).expect("fork works")
    };
    let (mut watched, mut to_reap) = (Vec::new(), Vec::new());
    for code in 0..8 {
        let pid = fork(code);
        let watch = match code % 2 {
            0 => watcher.adopt_pid(pid).map(|child| {
                let _ = child.deadline(Duration::from_secs(1000), Duration::ZERO);
                Handle::Own(child)
            }),
            _ => {
                to_reap.push(pid);
                watcher.watch(pid).map(Handle::Other)
            }
        };
        match watch {
            Ok(watch) => watched.push(with_callback(watch, code)),
            Err(error) => {
                if code % 2 == 0 {
                    to_reap.push(pid);
                }
                check_watch_error(case, errno, with_pidfds, &error);
            }
        }
    }
    // SAFETY: the child does nothing.
    let forked = unsafe { watcher.fork_watchable(|| ()) };
    // SAFETY: the child ends at once.
    let vforked = unsafe { watcher.vfork_watchable(|| libc::_exit(0)) };
    for forked in [forked, vforked] {
        match forked {
            Ok(watch) => {
                to_reap.push(watch.pid());
                watched.push(with_callback(Handle::Other(watch), 0));
            }
            Err(ForkError::Fork(error)) => assert_eq!(error.raw_os_error(), Some(errno), "{case}"),
            Err(ForkError::Refused(error) | ForkError::Watch(error)) => {
                check_watch_error(case, errno, with_pidfds, &error);
            }
        }
    }
    let exits = watcher.exits(16);
    match &exits {
        Ok(exits) => {
            for watched in &watched {
                let added = exits.add(&watched.watch, 0);
                assert!(added.is_ok() || is_dead(&watcher), "{case}: {added:?}");
            }
        }
        Err(error) => check_build_error(case, errno, error),
    }

    drop(writer);
    let mut byte = [0];
    assert_eq!((&reader).read(&mut byte).ok(), Some(0), "{case}");
    for watched in &watched {
        match watched.watch.wait_timeout(FOREVER) {
            Ok(Some(exit)) => {
                let outcome = exit.outcome();
                let without = Outcome::Unknown(Unknown::NoDescriptor(errno));
                let right = outcome == Outcome::Exited(watched.code) || outcome == without;
                assert!(right, "{case}: {outcome:?} is not {}", watched.code);
            }
            Ok(None) => panic!("{case}: an exit did not come: {:?}", watcher.stats()),
            Err(error) => {
                let died = WaitError::Closed(Closed::RingThreadDied);
                assert_eq!(error, died, "{case}");
                assert!(is_dead(&watcher), "{case}");
            }
        }
    }
    if let Ok(exits) = &exits {
        while let Ok(Some(_)) = exits.recv_timeout(FOREVER) {}
    }
    let ran = |watched: &Watched| watched.ran.load(Ordering::SeqCst);
    if !is_dead(&watcher) {
        until(&format!("{case}: callbacks run"), || {
            is_dead(&watcher) || watched.iter().all(|watched| ran(watched) == 1)
        });
    }
    // When what struck has struck, all is as before.
    if !is_dead(&watcher) {
        let code = 77;
        // SAFETY: the child ends at once.
        let pid = unsafe {
            let pid = libc::fork();
            if pid == 0 {
                libc::_exit(code);
            }
            pid
        };
        let child = watcher
            .adopt_pid(pid)
            .expect("a child of ours takes nothing");
        match child.wait_timeout(FOREVER) {
            Ok(exit) => assert_eq!(
                exit.expect("it comes").outcome(),
                Outcome::Exited(code),
                "{case}"
            ),
            Err(_) => assert!(is_dead(&watcher), "{case}"),
        }
    }
    drop(watcher);
    assert!(watched.iter().all(|watched| ran(watched) <= 1), "{case}");
    for pid in to_reap {
        // SAFETY: a null pointer; it is ours to reap, or gone.
        unsafe { libc::waitpid(pid.as_raw(), std::ptr::null_mut(), 0) };
    }
}

fn with_callback(watch: Handle, code: i32) -> Watched {
    let ran = Arc::new(AtomicU32::new(0));
    let runs = Arc::clone(&ran);
    let _ = watch.on_exit(move |_| {
        runs.fetch_add(1, Ordering::SeqCst);
    });
    Watched { watch, code, ran }
}

fn is_dead(watcher: &Watcher) -> bool {
    watcher.stats().death.is_some()
}

fn check_watch_error(case: &str, errno: i32, with_pidfds: bool, error: &WatchError) {
    if !with_pidfds && matches!(error, WatchError::PidfdDenied { .. }) {
        return;
    }
    if matches!(error, WatchError::Closed(Closed::RingThreadDied)) {
        return;
    }
    check_cause(case, errno, &error.to_string());
}

fn check_build_error(case: &str, errno: i32, error: &BuildError) {
    check_cause(case, errno, &error.to_string());
}

/// The message names what ran out, and what to do about it.
fn check_cause(case: &str, errno: i32, message: &str) {
    let cause = match errno {
        libc::EMFILE => "RLIMIT_NOFILE",
        libc::ENFILE => "fs.file-max",
        libc::ENOMEM => "memory",
        libc::EAGAIN | libc::EBUSY => "",
        libc::EPERM | libc::ENOSYS => "denied",
        _ => "failed",
    };
    assert!(message.contains(cause), "{case}: {message}");
}

fn descriptors() -> usize {
    let open = std::fs::read_dir("/proc/self/fd").expect("proc is mounted");
    open.count()
}

#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < FOREVER, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
