//! What cannot be done is refused with an error that says why and what to do, and nothing
//! else breaks.

mod common;

use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::mpsc;

use common::*;
use exitring::{BuildError, ForkError, NoDescriptors, Outcome, WatchError, Watcher};

/// The message of an error and of its sources.
fn message(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}

#[test]
fn zero_and_negative_numbers_are_no_pids() {
    let watcher = Watcher::new().unwrap();
    for raw in [0, -1, i32::MIN] {
        match watcher.watch(raw) {
            Err(WatchError::InvalidPid(invalid)) => assert_eq!(invalid.raw(), i64::from(raw)),
            other => panic!("{raw}: {other:?}"),
        }
    }
    assert!(matches!(
        watcher.watch(u32::MAX),
        Err(WatchError::InvalidPid(_))
    ));
    assert_eq!(watcher.stats().watched, 0);
}

#[test]
fn a_pid_that_does_not_exist_is_said_so() {
    let watcher = Watcher::new().unwrap();
    let reaped = zombie(0);
    let pid = reaped.pid();
    reaped.reap();
    // Another process can have it only after all other pids were given once.
    let error = watcher.watch(pid).unwrap_err();
    assert!(matches!(error, WatchError::NoSuchProcess { pid: p } if p == pid));
    assert!(message(error).contains("reaped"));
    assert_eq!(watcher.stats().watched, 0);
}

#[test]
fn a_thread_id_is_said_to_be_one() {
    let watcher = Watcher::new().unwrap();
    let (sender, receiver) = mpsc::channel();
    let (stop, stopped) = mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        // SAFETY: a bare system call.
        sender.send(unsafe { libc::gettid() }).unwrap();
        let _ = stopped.recv();
    });
    let tid = receive(&receiver);
    let error = watcher.watch(tid).unwrap_err();
    assert!(matches!(error, WatchError::Thread { pid } if pid.as_raw() == tid));
    assert!(message(error).contains("thread"));
    drop(stop);
    thread.join().unwrap();
}

#[test]
fn a_process_may_watch_itself_and_its_parent() {
    let watcher = Watcher::new().unwrap();
    let own = watcher.watch(std::process::id()).unwrap();
    let parent = watcher.watch(std::os::unix::process::parent_id()).unwrap();
    assert_eq!((own.exit(), parent.exit()), (None, None));
}

#[test]
fn a_descriptor_that_is_no_pidfd_is_refused() {
    let watcher = Watcher::new().unwrap();
    let file: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
    let (pipe, _writer) = std::io::pipe().unwrap();
    for fd in [file, pipe.into()] {
        let error = watcher.watch_pidfd(fd).unwrap_err();
        assert!(matches!(error, WatchError::NotAPidfd), "{error:?}");
        assert!(message(error).contains("pidfd_open"));
    }
    assert_eq!(watcher.stats().watched, 0);
}

fn pidfd_open(pid: i32, flags: u32) -> std::io::Result<OwnedFd> {
    // SAFETY: a bare system call, whose result is a new descriptor or an error.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, flags);
        match fd < 0 {
            true => Err(std::io::Error::last_os_error()),
            false => Ok(OwnedFd::from_raw_fd(fd as i32)),
        }
    }
}

#[test]
fn a_pidfd_is_taken_and_its_process_watched() {
    let watcher = Watcher::new().unwrap();
    let mut child = Obedient::spawn();
    let pidfd = pidfd_open(child.pid().as_raw(), libc::PIDFD_NONBLOCK).unwrap();
    let watch = watcher.watch_pidfd(pidfd).unwrap();
    assert_eq!(watch.pid(), child.pid());
    child.exit(77);
    assert_eq!(watch.wait().unwrap().outcome(), Outcome::Exited(77));
    assert_eq!(child.reap(), exited(77));
}

#[test]
fn a_pidfd_of_a_thread_is_refused() {
    const PIDFD_THREAD: u32 = libc::O_EXCL as u32;
    // SAFETY: a bare system call.
    let tid = unsafe { libc::gettid() };
    let Ok(pidfd) = pidfd_open(tid, PIDFD_THREAD) else {
        // Linux before 6.9 has no such thing.
        return;
    };
    let watcher = Watcher::new().unwrap();
    let error = watcher.watch_pidfd(pidfd).unwrap_err();
    assert!(matches!(error, WatchError::ThreadPidfd), "{error:?}");
}

#[test]
fn a_pidfd_of_a_reaped_process_is_refused() {
    let watcher = Watcher::new().unwrap();
    let child = zombie(0);
    let pidfd = pidfd_open(child.pid().as_raw(), 0).unwrap();
    child.reap();
    let error = watcher.watch_pidfd(pidfd).unwrap_err();
    assert!(matches!(error, WatchError::Reaped), "{error:?}");
}

#[test]
fn options_out_of_range_are_refused() {
    for (builder, expected) in [
        (Watcher::builder().queue_capacity(0), "queue_capacity"),
        (
            Watcher::builder().queue_capacity(usize::MAX),
            "queue_capacity",
        ),
        (Watcher::builder().max_watches(0), "max_watches"),
        (Watcher::builder().max_watches(usize::MAX), "max_watches"),
        (Watcher::builder().workers(1_000_000), "workers"),
    ] {
        match builder.build() {
            Err(BuildError::Option { option, .. }) => assert_eq!(option, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
}

#[test]
fn more_watches_than_allowed_are_refused_until_some_end() {
    let watcher = Watcher::builder().max_watches(2).build().unwrap();
    let mut child = Obedient::spawn();
    let first = watcher.watch(child.pid()).unwrap();
    let second = watcher.watch(child.pid()).unwrap();
    let error = watcher.watch(child.pid()).unwrap_err();
    assert!(matches!(error, WatchError::TooMany { limit: 2 }));
    assert!(error.is_throttling());
    drop(second);
    until("there is room", || watcher.watch(child.pid()).is_ok());
    child.exit(0);
    first.wait().unwrap();
    until_stats(&watcher, "all is over", |stats| stats.watched == 0);
}

/// Takes every descriptor the process may have.
fn take_all_descriptors() -> Vec<std::fs::File> {
    let mut taken = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        taken.push(file);
    }
    taken
}

#[test]
fn without_descriptors_everything_is_refused_and_nothing_lost() {
    if !alone() {
        return run_alone(
            "without_descriptors_everything_is_refused_and_nothing_lost",
            lower_descriptor_limit,
        );
    }
    let watcher = Watcher::new().unwrap();
    let mut child = Obedient::spawn();
    let other = Obedient::spawn();
    let watch = watcher.watch(child.pid()).unwrap();
    until_stats(&watcher, "it is armed", |stats| stats.armed == 1);

    let taken = take_all_descriptors();
    let limit = NoDescriptors::Process { limit: 64 };
    match watcher.watch(other.pid()) {
        Err(error @ WatchError::NoDescriptors(_)) => {
            assert!(error.is_throttling());
            assert!(message(error).contains("RLIMIT_NOFILE"));
        }
        other => panic!("{other:?}"),
    }
    match Watcher::new() {
        Err(BuildError::NoDescriptors(found)) => assert_eq!(found, limit),
        other => panic!("{other:?}"),
    }
    // SAFETY: the child does nothing.
    match unsafe { watcher.fork_watchable(|| ()) } {
        Err(ForkError::Refused(WatchError::NoDescriptors(found))) => assert_eq!(found, limit),
        other => panic!("{other:?}"),
    }
    assert_eq!(watcher.stats().watched, 1);

    // The status of what is watched can be read all the same.
    child.exit(11);
    assert_eq!(watch.wait().unwrap().outcome(), Outcome::Exited(11));
    drop(taken);
    let watch = watcher.watch(other.pid()).unwrap();
    drop(other);
    watch.wait().unwrap();
}

#[test]
fn a_thousand_watches_fit_into_64_descriptors() {
    if !alone() {
        return run_alone(
            "a_thousand_watches_fit_into_64_descriptors",
            lower_descriptor_limit,
        );
    }
    let watcher = Watcher::new().unwrap();
    let mut child = Obedient::spawn();
    let before = open_descriptors();
    // Before Linux 6.9, and with epoll, a watch on what is not the watcher's own keeps its pidfd.
    let own = watcher.stats().descriptors;
    let one = watcher.watch(child.pid()).unwrap();
    let held = until_stats(&watcher, "it is armed", |stats| stats.armed == 1).descriptors - own;
    drop(one);
    until_stats(&watcher, "it is given up", |stats| stats.watched == 0);
    let count = if held == 0 { 1000 } else { 20 };
    let watches: Vec<_> = (0..count)
        .map(|_| watcher.watch(child.pid()).unwrap())
        .collect();
    let stats = until_stats(&watcher, "all are armed", |stats| stats.armed == count);
    assert_eq!(stats.descriptors, own + held * count);
    assert_eq!(open_descriptors(), before + (held * count) as usize);
    child.exit(12);
    for watch in &watches {
        assert_eq!(watch.wait().unwrap().outcome(), Outcome::Exited(12));
    }
    until("all descriptors are given back", || {
        open_descriptors() <= before
    });
}

#[test]
fn with_sigchld_ignored_the_exit_is_told_or_said_to_be_untellable() {
    if !alone() {
        return run_alone(
            "with_sigchld_ignored_the_exit_is_told_or_said_to_be_untellable",
            |_| (),
        );
    }
    // SAFETY: the default and "ignore" are no functions.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    let watcher = Watcher::new().unwrap();
    for code in 0..20 {
        let gate = Gate::new();
        let watch = watcher.watch(gate.fork(code)).unwrap();
        gate.open();
        let outcome = watch.wait().unwrap().outcome();
        let untellable = Outcome::Unknown(exitring::Unknown::SigchldIgnored);
        // From Linux 6.15 on the kernel tells it after the fact.
        assert!(
            outcome == Outcome::Exited(code) || outcome == untellable,
            "{outcome:?}"
        );
    }
}
