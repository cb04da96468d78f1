//! Denied system calls, as in containers and on old kernels. The next best backend is chosen; what
//! it cannot do is an error with a remedy.

mod common;

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use common::deny::deny;
use common::*;
use exitring::{Backend, BuildError, Cancel, ForkError, Outcome, WatchError, Watcher};

/// Runs the test in its own process, with the call denied, once for each errno of a denied call.
#[track_caller]
fn run_denied(test: &str, call: libc::c_long) {
    for errno in [libc::EPERM, libc::ENOSYS] {
        run_in_own_process(test, |command| {
            command.env("EXITRING_TEST_ERRNO", errno.to_string());
            command.env_remove("EXITRING_BACKEND");
            // SAFETY: `deny` makes system calls only.
            unsafe { command.pre_exec(move || deny(call, errno)) };
        });
    }
}

/// The errno of the denied call, in the process that [`run_denied`] starts.
fn denied_errno() -> i32 {
    let errno = std::env::var("EXITRING_TEST_ERRNO").unwrap();
    errno.parse().unwrap()
}

/// Checks what every backend can do: watch owned children.
fn check_owned_children(watcher: Watcher) {
    let (sender, receiver) = mpsc::channel();
    let exits = watcher.exits(100).unwrap();
    let children: Vec<_> = (0..100)
        .map(|code| {
            let child = watcher.spawn(&mut sh(&format!("exit {code}"))).unwrap();
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

    let spawn = || watcher.spawn(&mut sleep()).unwrap();
    let (killed, overdue, cancelled) = (spawn(), spawn(), spawn());
    let id = cancelled.on_exit(|_| panic!("it was cancelled")).unwrap();
    assert_eq!(cancelled.cancel(id), Cancel::Cancelled);
    assert_eq!(killed.wait_timeout(Duration::from_millis(1)), Ok(None));
    killed.kill().unwrap();
    assert_eq!(killed.wait().unwrap().outcome(), signaled(libc::SIGKILL));
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

    // A child that outlives the watcher is reaped, too.
    let orphan = spawn();
    let pid = orphan.pid();
    drop(watcher);
    // SAFETY: no pointers; the child runs until it is killed here.
    assert_eq!(unsafe { libc::kill(pid.as_raw(), libc::SIGKILL) }, 0);
    until_reaped(pid);
}

/// Checks what needs pidfds: processes that another part of the program reaps.
fn check_other_processes(watcher: Watcher) {
    let mut child = ControlledChild::spawn();
    let watch = watcher.watch(child.pid()).unwrap();
    let receiver = outcome_receiver(&watch);
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
    assert_eq!(reap(forked.pid()), 0);
    until_stats(&watcher, "nothing is watched", |stats| stats.watched == 0);
}

#[track_caller]
fn assert_falls_back(backend: &str, reason: &str) {
    for workers in [0, 1] {
        let watcher = || Watcher::builder().workers(workers).build().unwrap();
        let stats = watcher().stats();
        assert_eq!(stats.backend, backend);
        let fallback = stats.fallback.unwrap();
        assert!(fallback.contains(reason), "{fallback}");
        check_owned_children(watcher());
    }
}

#[test]
fn without_io_uring_the_backend_is_epoll() {
    if !in_own_process() {
        return run_denied(
            "without_io_uring_the_backend_is_epoll",
            libc::SYS_io_uring_setup,
        );
    }
    assert_falls_back("epoll", "io_uring is denied");
    check_other_processes(Watcher::new().unwrap());
    let before = open_descriptors();
    match Watcher::builder().backend(Backend::Uring).build() {
        Err(BuildError::IoUringDenied { errno, remedy }) => {
            assert_eq!(errno, denied_errno());
            assert!(remedy.contains("seccomp"), "{remedy}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(open_descriptors(), before);
}

/// The timeout of `epoll_wait` is at most 24 days; longer ones need `epoll_pwait2`.
#[test]
fn without_epoll_pwait2_a_deadline_may_be_weeks_away() {
    if !in_own_process() {
        let test = "without_epoll_pwait2_a_deadline_may_be_weeks_away";
        return run_denied(test, libc::SYS_epoll_pwait2);
    }
    let builder = Watcher::builder().backend(Backend::Epoll);
    let watcher = builder.build().unwrap();
    let child = watcher.spawn(&mut sleep()).unwrap();
    let month = Duration::from_secs(30 * 24 * 60 * 60);
    child.deadline(month, Duration::ZERO).unwrap();
    assert_eq!(child.wait_timeout(Duration::from_millis(20)), Ok(None));
    child.kill().unwrap();
    assert!(!child.wait().unwrap().by_deadline());
}

#[test]
fn with_io_uring_enter_denied_the_backend_is_epoll() {
    if !in_own_process() {
        let test = "with_io_uring_enter_denied_the_backend_is_epoll";
        return run_denied(test, libc::SYS_io_uring_enter);
    }
    assert_falls_back("epoll", "io_uring_enter");
    check_other_processes(Watcher::new().unwrap());
    match Watcher::builder().backend(Backend::Uring).build() {
        Err(BuildError::IoUringDenied { errno, .. }) => assert_eq!(errno, denied_errno()),
        other => panic!("{other:?}"),
    }
}

/// Without the file table the watcher keeps the identity of a process in another way.
#[test]
fn with_io_uring_register_denied_the_backend_is_still_io_uring() {
    if !in_own_process() {
        let test = "with_io_uring_register_denied_the_backend_is_still_io_uring";
        return run_denied(test, libc::SYS_io_uring_register);
    }
    let watcher = Watcher::new().unwrap();
    assert_eq!(watcher.stats().backend, "io_uring");
    check_owned_children(watcher);
    check_other_processes(Watcher::new().unwrap());
}

#[test]
fn without_pidfds_owned_children_are_watched_by_threads_and_others_are_refused() {
    if !in_own_process() {
        let test = "without_pidfds_owned_children_are_watched_by_threads_and_others_are_refused";
        return run_denied(test, libc::SYS_pidfd_open);
    }
    assert_falls_back("threads", "pidfd_open is denied");
    let watcher = Watcher::new().unwrap();
    let mut child = ControlledChild::spawn();
    let assert_denied = |error: WatchError| {
        assert!(matches!(error, WatchError::PidfdDenied { errno } if errno == denied_errno()));
        assert!(error.to_string().contains("seccomp"));
    };
    assert_denied(watcher.watch(child.pid()).unwrap_err());
    assert_denied(watcher.watch_reaped(child.pid()).unwrap_err());
    let not_a_pidfd = std::fs::File::open("/dev/null").unwrap();
    assert_denied(watcher.watch_pidfd(not_a_pidfd.into()).unwrap_err());
    // SAFETY: refused, or else the child does nothing.
    match unsafe { watcher.fork_watchable(|| ()) } {
        Err(ForkError::Refused(error)) => assert_denied(error),
        other => panic!("{other:?}"),
    }
    for backend in [Backend::Uring, Backend::Epoll] {
        match Watcher::builder().backend(backend).build() {
            Err(error @ BuildError::PidfdDenied { errno }) => {
                assert_eq!(errno, denied_errno());
                assert!(error.to_string().contains("seccomp"));
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
fn without_pidfds_a_thousand_children_are_watched_by_256_threads() {
    if !in_own_process() {
        let test = "without_pidfds_a_thousand_children_are_watched_by_256_threads";
        return run_denied(test, libc::SYS_pidfd_open);
    }
    let watcher = Watcher::new().unwrap();
    let gate = ExitGate::new();
    let children: Vec<_> = (0..1000)
        .map(|index| watcher.adopt_pid(gate.fork(index % 256)).unwrap())
        .collect();
    until_stats(&watcher, "all threads wait", |stats| stats.armed == 256);
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    assert!(threads() < 256 + 10, "{} threads", threads());
    gate.open();
    for (index, child) in (0..).zip(&children) {
        assert_eq!(
            child.wait().unwrap().outcome(),
            Outcome::Exited(index % 256)
        );
    }
    until("the threads have ended", || threads() < 10);
}

#[test]
fn without_io_uring_and_pidfds_the_backend_is_threads() {
    if !in_own_process() {
        return run_in_own_process(
            "without_io_uring_and_pidfds_the_backend_is_threads",
            |command| {
                command.env_remove("EXITRING_BACKEND");
                // SAFETY: `deny` makes system calls only.
                unsafe {
                    command.pre_exec(|| {
                        deny(libc::SYS_io_uring_setup, libc::EPERM)?;
                        deny(libc::SYS_pidfd_open, libc::ENOSYS)
                    });
                }
            },
        );
    }
    assert_falls_back("threads", "pidfd_open is denied");
}

#[test]
fn the_environment_variable_chooses_the_backend_unless_the_builder_does() {
    let test = "the_environment_variable_chooses_the_backend_unless_the_builder_does";
    if !in_own_process() {
        for value in ["uring", "epoll", "threads", "kqueue"] {
            run_in_own_process(test, |command| {
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
                error.to_string(),
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
    if !in_own_process() {
        let test = "without_pidfds_the_rest_of_a_group_keeps_its_grace";
        return run_denied(test, libc::SYS_pidfd_open);
    }
    let watcher = Watcher::new().unwrap();
    // SIGTERM ends the leader, and the other process cleans up.
    let cleans_up =
        "trap 'sleep 0.05; echo clean; exit' TERM; echo ready; while true; do sleep 0.01; done";
    let mut command = sh(&format!("({cleans_up}) & wait"));
    command.process_group(0).stdout(Stdio::piped());
    let child = watcher.spawn(&mut command).unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    child
        .deadline(Duration::ZERO, Duration::from_secs(1000))
        .unwrap();
    child.wait().unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "clean");
    until("the grace is over", || !child.group_in_grace());
}

#[test]
fn a_child_is_watched_although_pidfds_are_denied_after_the_watcher_was_built() {
    if !in_own_process() {
        let test = "a_child_is_watched_although_pidfds_are_denied_after_the_watcher_was_built";
        for backend in ["uring", "epoll"] {
            run_in_own_process(test, |command| {
                command.env("EXITRING_BACKEND", backend);
            });
        }
        return;
    }
    let watcher = Watcher::builder().workers(0).build().unwrap();
    let deny_pidfds = || deny(libc::SYS_pidfd_open, libc::EPERM);
    // A filter applies to the thread that installs it, so the ring thread installs one, too.
    let (sender, receiver) = mpsc::channel();
    let child = watcher.spawn(&mut sh("true")).unwrap();
    child
        .on_exit(move |_| sender.send(deny_pidfds()).unwrap())
        .unwrap();
    receive(&receiver).unwrap();
    deny_pidfds().unwrap();

    let child = watcher
        .spawn(sh("read line; exit 3").stdin(Stdio::piped()))
        .unwrap();
    let stdin = child.stdin.take();
    let exit = child.wait_timeout(Duration::from_millis(50)).unwrap();
    assert!(exit.is_none(), "it lives: {exit:?}");
    drop(stdin);
    assert_eq!(child.wait().unwrap().outcome(), Outcome::Exited(3));
}
