//! io_uring and pidfds denied, as containers and old kernels do it: what is next best is taken, all that it can do
//! works, and the rest is an error with a remedy.

mod common;
#[path = "common/deny.rs"]
mod deny;

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use common::*;
use deny::deny;
use exitring::{Backend, BuildError, Cancel, ForkError, Outcome, WatchError, Watcher};

/// Runs the test alone, with the call denied by either errno that denies.
#[track_caller]
fn run_denied(test: &str, call: libc::c_long) {
    for errno in [libc::EPERM, libc::ENOSYS] {
        run_alone(test, |command| {
            command.env("EXITRING_TEST_ERRNO", errno.to_string());
            command.env_remove("EXITRING_BACKEND");
            // SAFETY: `deny` makes system calls only.
            unsafe { command.pre_exec(move || deny(call, errno)) };
        });
    }
}

fn denied_with() -> i32 {
    let errno = std::env::var("EXITRING_TEST_ERRNO").unwrap();
    errno.parse().unwrap()
}

fn message(error: impl Error) -> String {
    error.to_string()
}

/// What every backend can do: children that the watcher owns.
fn own_children(watcher: Watcher) {
    let (sender, receiver) = mpsc::channel();
    let exits = watcher.exits(100).unwrap();
    let children: Vec<_> = (0..100)
        .map(|code| {
            let child = watcher.spawn(sh(&format!("exit {code}"))).unwrap();
            let sender = sender.clone();
            child
                .on_exit(move |exit| sender.send(exit.outcome()).unwrap())
                .unwrap();
            exits.add(&child, code as u64).unwrap();
            child
        })
        .collect();
    for (code, child) in (0..).zip(&children) {
        let exit = child.wait().unwrap();
        assert_eq!(exit.outcome(), Outcome::Exited(code));
        assert!(exit.usage().is_some());
    }
    let mut codes: Vec<_> = (0..100)
        .map(|_| match receive(&receiver) {
            Outcome::Exited(code) => code,
            other => panic!("{other:?}"),
        })
        .collect();
    codes.sort_unstable();
    assert!(codes.iter().copied().eq(0..100));
    let mut tags: Vec<_> = (0..100)
        .map(|_| exits.recv().unwrap().unwrap().tag)
        .collect();
    tags.sort_unstable();
    assert!(tags.iter().copied().eq(0..100));

    let endless = || watcher.spawn(sh("exec sleep 1000")).unwrap();
    let (killed, overdue, cancelled) = (endless(), endless(), endless());
    let id = cancelled.on_exit(|_| panic!("it was cancelled")).unwrap();
    assert_eq!(cancelled.cancel(id), Cancel::Cancelled);
    assert!(
        killed
            .wait_timeout(Duration::from_millis(1))
            .unwrap()
            .is_none()
    );
    killed.kill().unwrap();
    assert!(matches!(
        killed.wait().unwrap().outcome(),
        Outcome::Signaled {
            signal: libc::SIGKILL,
            ..
        }
    ));
    overdue
        .deadline(Duration::from_millis(5), Duration::from_secs(10))
        .unwrap();
    assert!(overdue.wait().unwrap().by_deadline());
    cancelled.kill().unwrap();
    cancelled.wait().unwrap();
    let pid = killed.pid();
    assert!(matches!(
        watcher.adopt_pid(pid),
        Err(WatchError::NoSuchProcess { .. })
    ));

    // One outlives the watcher, and is reaped all the same.
    let orphan = endless();
    let pid = orphan.pid();
    drop(watcher);
    // SAFETY: it lives until it is killed here.
    assert_eq!(unsafe { libc::kill(pid.as_raw(), libc::SIGKILL) }, 0);
    until("the orphan is reaped", || {
        !std::path::Path::new(&format!("/proc/{pid}")).exists()
    });
}

/// What takes pidfds: processes that are somebody else's to reap.
fn others(watcher: Watcher) {
    let mut child = Obedient::spawn();
    let watch = watcher.watch(child.pid()).unwrap();
    let (sender, receiver) = mpsc::channel();
    watch
        .on_exit(move |exit| sender.send(exit.outcome()).unwrap())
        .unwrap();
    drop(watcher.watch(child.pid()).unwrap());
    child.exit(7);
    assert_eq!(receive(&receiver), Outcome::Exited(7));
    assert_eq!(child.reap(), exited(7));
    assert!(matches!(
        watcher.watch(watch.pid()),
        Err(WatchError::NoSuchProcess { .. })
    ));

    let ended = zombie(8);
    let outcome = watcher
        .watch(ended.pid())
        .unwrap()
        .wait()
        .unwrap()
        .outcome();
    assert_eq!(outcome, Outcome::Exited(8));
    // SAFETY: the child does nothing.
    let forked = unsafe { watcher.fork_watchable(|| ()) }.unwrap();
    assert_eq!(forked.wait().unwrap().outcome(), Outcome::Exited(0));
    // SAFETY: a null pointer; it is ours to reap.
    unsafe { libc::waitpid(forked.pid().as_raw(), std::ptr::null_mut(), 0) };
    until_stats(&watcher, "all is over", |stats| stats.watched == 0);
}

fn sh(script: &str) -> &'static mut std::process::Command {
    let mut command = std::process::Command::new("sh");
    command.args(["-c", script]);
    Box::leak(Box::new(command))
}

#[track_caller]
fn assert_falls_back(backend: &str, why: &str) {
    for workers in [0, 1] {
        let watcher = || Watcher::builder().workers(workers).build().unwrap();
        let stats = watcher().stats();
        assert_eq!(stats.backend, backend);
        let fallback = stats.fallback.unwrap();
        assert!(fallback.contains(why), "{fallback}");
        own_children(watcher());
    }
}

#[test]
fn without_io_uring_it_is_epoll() {
    if !alone() {
        return run_denied("without_io_uring_it_is_epoll", libc::SYS_io_uring_setup);
    }
    assert_falls_back("epoll", "io_uring is denied");
    others(Watcher::new().unwrap());
    let before = open_descriptors();
    match Watcher::builder().backend(Backend::Uring).build() {
        Err(BuildError::IoUringDenied { errno, remedy }) => {
            assert_eq!(errno, denied_with());
            assert!(remedy.contains("seccomp"), "{remedy}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(open_descriptors(), before);
}

/// What takes longer than the old call can say (24 days) takes the new one.
#[test]
fn without_epoll_pwait2_a_deadline_may_be_weeks_away() {
    if !alone() {
        let test = "without_epoll_pwait2_a_deadline_may_be_weeks_away";
        return run_denied(test, libc::SYS_epoll_pwait2);
    }
    let builder = Watcher::builder().backend(Backend::Epoll);
    let watcher = builder.build().unwrap();
    let child = watcher.spawn(sh("exec sleep 1000")).unwrap();
    let month = Duration::from_secs(30 * 24 * 60 * 60);
    child.deadline(month, Duration::ZERO).unwrap();
    assert_eq!(child.wait_timeout(Duration::from_millis(20)), Ok(None));
    child.kill().unwrap();
    assert!(!child.wait().unwrap().by_deadline());
}

#[test]
fn with_a_ring_that_may_not_be_entered_it_is_epoll() {
    if !alone() {
        let test = "with_a_ring_that_may_not_be_entered_it_is_epoll";
        return run_denied(test, libc::SYS_io_uring_enter);
    }
    assert_falls_back("epoll", "io_uring_enter");
    others(Watcher::new().unwrap());
    match Watcher::builder().backend(Backend::Uring).build() {
        Err(BuildError::IoUringDenied { errno, .. }) => assert_eq!(errno, denied_with()),
        other => panic!("{other:?}"),
    }
}

/// Without the file table the identity is held otherwise.
#[test]
fn with_a_ring_that_takes_no_files_it_is_io_uring_all_the_same() {
    if !alone() {
        let test = "with_a_ring_that_takes_no_files_it_is_io_uring_all_the_same";
        return run_denied(test, libc::SYS_io_uring_register);
    }
    let watcher = Watcher::new().unwrap();
    assert_eq!(watcher.stats().backend, "io_uring");
    own_children(watcher);
    others(Watcher::new().unwrap());
}

#[test]
fn without_pidfds_it_is_threads_for_own_children_and_an_error_for_others() {
    if !alone() {
        let test = "without_pidfds_it_is_threads_for_own_children_and_an_error_for_others";
        return run_denied(test, libc::SYS_pidfd_open);
    }
    assert_falls_back("threads", "pidfd_open is denied");
    let watcher = Watcher::new().unwrap();
    let mut child = Obedient::spawn();
    let said = |error: WatchError| {
        assert!(matches!(error, WatchError::PidfdDenied { errno } if errno == denied_with()));
        assert!(message(error).contains("seccomp"));
    };
    said(watcher.watch(child.pid()).unwrap_err());
    said(watcher.watch_reaped(child.pid()).unwrap_err());
    let no_pidfd = std::fs::File::open("/dev/null").unwrap();
    said(watcher.watch_pidfd(no_pidfd.into()).unwrap_err());
    // SAFETY: refused, or else the child does nothing.
    match unsafe { watcher.fork_watchable(|| ()) } {
        Err(ForkError::Refused(error)) => said(error),
        other => panic!("{other:?}"),
    }
    for backend in [Backend::Uring, Backend::Epoll] {
        match Watcher::builder().backend(backend).build() {
            Err(error @ BuildError::PidfdDenied { errno }) => {
                assert_eq!(errno, denied_with());
                assert!(message(error).contains("seccomp"));
            }
            other => panic!("{other:?}"),
        }
    }
    child.exit(0);
    assert_eq!(child.reap(), exited(0));
    assert_eq!(watcher.stats().watched, 0);
}

/// More children than there are threads.
#[test]
fn without_pidfds_a_thousand_children_are_watched_by_so_many_threads() {
    if !alone() {
        let test = "without_pidfds_a_thousand_children_are_watched_by_so_many_threads";
        return run_denied(test, libc::SYS_pidfd_open);
    }
    let watcher = Watcher::new().unwrap();
    let gate = Gate::new();
    let children: Vec<_> = (0..1000)
        .map(|index| watcher.adopt_pid(gate.fork(index % 256)).unwrap())
        .collect();
    until_stats(&watcher, "all threads wait", |stats| stats.armed == 256);
    let threads = std::fs::read_dir("/proc/self/task").unwrap().count();
    assert!(threads < 256 + 10, "{threads} threads");
    gate.open();
    for (index, child) in (0..).zip(&children) {
        assert_eq!(
            child.wait().unwrap().outcome(),
            Outcome::Exited(index % 256)
        );
    }
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    until("the threads are gone", || threads() < 10);
}

#[test]
fn with_both_denied_it_is_threads() {
    if !alone() {
        return run_alone("with_both_denied_it_is_threads", |command| {
            command.env_remove("EXITRING_BACKEND");
            // SAFETY: `deny` makes system calls only.
            unsafe {
                command.pre_exec(|| {
                    deny(libc::SYS_io_uring_setup, libc::EPERM)?;
                    deny(libc::SYS_pidfd_open, libc::ENOSYS)
                });
            }
        });
    }
    assert_falls_back("threads", "pidfd_open is denied");
}

#[test]
fn the_variable_chooses_a_backend_where_none_is_asked_for() {
    let test = "the_variable_chooses_a_backend_where_none_is_asked_for";
    if !alone() {
        for value in ["uring", "epoll", "threads", "kqueue"] {
            run_alone(test, |command| {
                command.env("EXITRING_BACKEND", value);
            });
        }
        return;
    }
    let value = std::env::var("EXITRING_BACKEND").unwrap();
    match (value.as_str(), Watcher::new()) {
        ("uring", Ok(watcher)) => assert_eq!(watcher.stats().backend, "io_uring"),
        ("epoll" | "threads", Ok(watcher)) => assert_eq!(watcher.stats().backend, value),
        (_, Err(error @ BuildError::Variable { .. })) => {
            assert_eq!(value, "kqueue");
            assert_eq!(
                message(error),
                r#"EXITRING_BACKEND is "kqueue", and must be one of auto, uring, epoll, threads"#
            );
        }
        (_, other) => panic!("{value}: {other:?}"),
    }
    for (backend, name) in [(Backend::Uring, "io_uring"), (Backend::Epoll, "epoll")] {
        let watcher = Watcher::builder().backend(backend).build().unwrap();
        assert_eq!(watcher.stats().backend, name);
        assert_eq!(watcher.stats().fallback, None);
    }
}

#[test]
fn without_pidfds_the_rest_of_a_group_keeps_its_grace() {
    if !alone() {
        let test = "without_pidfds_the_rest_of_a_group_keeps_its_grace";
        return run_denied(test, libc::SYS_pidfd_open);
    }
    let watcher = Watcher::new().unwrap();
    // The leader ends of SIGTERM, and the other cleans up.
    let script = "(trap 'sleep 0.05; echo clean; exit' TERM; echo ready; while true; do sleep 0.01; done) & wait";
    let mut command = std::process::Command::new("sh");
    command.args(["-c", script]).process_group(0);
    let child = watcher.spawn(command.stdout(Stdio::piped())).unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    child
        .deadline(Duration::ZERO, Duration::from_secs(1000))
        .unwrap();
    child.wait().unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "clean");
    until("nobody is left of the group", || !child.group_in_grace());
}
