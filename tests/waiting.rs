//! Waiting for an exit, and what the exit reports.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::*;
use exitring::{Closed, Outcome, Unknown, WaitError, WatchError, Watcher};

#[test]
fn wait_returns_the_exit_of_a_child() {
    let watcher = Watcher::new().unwrap();
    let mut child = ControlledChild::spawn();
    let watch = watcher.watch(child.pid()).unwrap();
    assert_eq!(watch.wait_timeout(Duration::from_millis(20)), Ok(None));
    let before = Instant::now();
    child.exit(200);
    let exit = watch.wait().unwrap();
    assert_eq!(exit.outcome(), Outcome::Exited(200));
    assert!(!exit.success());
    assert!(exit.seen_at() >= before && exit.seen_at() <= Instant::now());
    assert_eq!(watch.wait_timeout(Duration::ZERO), Ok(Some(exit)));
    assert_eq!(child.reap(), exited(200));
}

#[test]
fn many_threads_may_wait_for_one_process() {
    let watcher = Watcher::new().unwrap();
    let mut child = ControlledChild::spawn();
    let watch = watcher.watch(child.pid()).unwrap();
    std::thread::scope(|scope| {
        let waiters: Vec<_> = (0..8).map(|_| scope.spawn(|| watch.wait())).collect();
        child.exit(5);
        for waiter in waiters {
            let exit = waiter.join().unwrap().unwrap();
            assert_eq!(exit.outcome(), Outcome::Exited(5));
        }
    });
}

#[test]
fn a_killed_child_is_reported_as_signaled() {
    let watcher = Watcher::new().unwrap();
    let mut child = ControlledChild::spawn();
    let watch = watcher.watch(child.pid()).unwrap();
    child.kill();
    let expected = signaled(libc::SIGKILL);
    assert_eq!(watch.wait().unwrap().outcome(), expected);
}

#[test]
fn the_usage_of_a_child_is_reported() {
    let watcher = Watcher::new().unwrap();
    let mut child = sh("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done")
        .spawn()
        .unwrap();
    let exit = watcher.watch(child.id()).unwrap().wait().unwrap();
    let usage = exit.usage().expect("it is a child");
    assert!(
        usage.user() + usage.system() > Duration::from_millis(1),
        "{usage:?}"
    );
    assert!(usage.max_rss_bytes() > 100 * 1024, "{usage:?}");
    child.wait().unwrap();
}

#[test]
fn stopping_and_continuing_is_no_exit() {
    let watcher = Watcher::new().unwrap();
    let mut child = ControlledChild::spawn();
    let watch = watcher.watch(child.pid()).unwrap();
    for signal in [libc::SIGSTOP, libc::SIGCONT] {
        // SAFETY: no pointers; the pid is our child's.
        assert_eq!(unsafe { libc::kill(child.pid().as_raw(), signal) }, 0);
        assert_eq!(watch.wait_timeout(Duration::from_millis(20)), Ok(None));
    }
    child.exit(0);
    assert!(watch.wait().unwrap().success());
}

#[test]
fn the_exit_of_a_non_child_is_seen_and_its_status_is_unknown() {
    let watcher = Watcher::new().unwrap();
    // A grandchild that stays a zombie: its parent forks it and then executes a program that never
    // reaps.
    let mut parent = sh("sleep 0.2 & echo $!; exec sleep 1000")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(parent.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let pid: i32 = line.trim().parse().unwrap();
    let watch = watcher.watch(pid).unwrap();
    let exit = watch.wait().unwrap();
    assert_eq!(exit.outcome(), Outcome::Unknown(Unknown::NotAChild));
    assert_eq!((exit.status(), exit.usage()), (None, None));
    assert!(is_zombie(exit.pid()));
    parent.kill().unwrap();
    parent.wait().unwrap();
}

#[test]
fn dropping_the_watcher_wakes_blocked_waiters() {
    let child = ControlledChild::spawn();
    let watcher = Watcher::new().unwrap();
    let watch = Arc::new(watcher.watch(child.pid()).unwrap());
    let waiter = std::thread::spawn({
        let watch = watch.clone();
        move || watch.wait()
    });
    // The waiter is probably blocked after this.
    std::thread::sleep(Duration::from_millis(20));
    drop(watcher);
    let closed = Err(WaitError::Closed(Closed::Dropped));
    assert_eq!(waiter.join().unwrap(), closed);
    assert_eq!(watch.wait(), closed);
    assert_eq!(watch.on_exit(|_| ()), Err(Closed::Dropped));
}

#[test]
fn an_exit_that_was_seen_outlives_the_watcher() {
    let child = zombie(6);
    let watcher = Watcher::new().unwrap();
    let watch = watcher.watch(child.pid()).unwrap();
    let exit = watch.wait().unwrap();
    drop(watcher);
    assert_eq!(watch.exit(), Some(exit.clone()));
    assert_eq!(watch.wait(), Ok(exit));
}

/// The kernel reports the end of a traced child to the tracer first. Until then the parent's
/// `waitid` finds nothing although the pidfd is readable. The watch must neither fail nor spin.
#[test]
fn the_exit_of_a_traced_child_is_reported_once_its_tracer_has_seen_it() {
    let watcher = Watcher::new().unwrap();
    let mut command = sh("read line; exit 9");
    command.stdin(Stdio::piped());
    // SAFETY: prctl is a bare system call. It fails without Yama, where it is not needed.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PTRACER, libc::PR_SET_PTRACER_ANY);
            Ok(())
        });
    }
    let mut child = command.spawn().unwrap();
    let pid = child.id() as i32;
    let (mut from_tracer, to_test) = pipe();
    let (from_test, mut to_tracer) = pipe();
    // SAFETY: the child makes system calls only, with pointers to live values.
    let tracer = unsafe {
        fork(|| {
            libc::close(to_tracer.as_raw_fd());
            let seized = u8::from(libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0) == 0);
            libc::write(to_test.as_raw_fd(), (&raw const seized).cast(), 1);
            let mut go = 0_u8;
            libc::read(from_test.as_raw_fd(), (&raw mut go).cast(), 1);
            libc::waitpid(pid, std::ptr::null_mut(), libc::__WALL);
            0
        })
    };
    let mut seized = [0];
    from_tracer.read_exact(&mut seized).unwrap();
    assert_eq!(seized, [1], "the tracer could not attach");

    let watch = watcher.watch(pid).unwrap();
    // Closing the pipe would not do: the tracer has a copy of it.
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    until("the child is a zombie", || is_zombie(watch.pid()));
    let enters = watcher.stats().enters;
    assert_eq!(watch.wait_timeout(Duration::from_millis(200)), Ok(None));
    let spins = watcher.stats().enters - enters;
    assert!(spins < 200, "{spins} enters in 200 ms");
    to_tracer.write_all(&[1]).unwrap();
    assert_eq!(watch.wait().unwrap().outcome(), Outcome::Exited(9));
    assert_eq!(child.wait().unwrap(), exited(9));
    assert_eq!(reap(tracer), 0);
}

#[test]
fn the_status_of_a_non_child_is_reported_once_its_parent_reaped_it() {
    let watcher = Watcher::new().unwrap();
    let (mut socket, parents_end) = UnixStream::pair().unwrap();
    let fd = parents_end.as_raw_fd();
    // A child that forks a child, sends its pid, and reaps it and exits on command.
    // SAFETY: both make system calls only.
    let parent = unsafe {
        fork(|| {
            let grandchild = libc::fork();
            if grandchild == 0 {
                libc::_exit(9);
            }
            let mut byte = 0_u8;
            libc::write(fd, (&raw const grandchild).cast(), 4);
            libc::read(fd, (&raw mut byte).cast(), 1);
            libc::waitpid(grandchild, std::ptr::null_mut(), 0);
            libc::read(fd, (&raw mut byte).cast(), 1);
            0
        })
    };
    let parent = watcher.adopt_pid(parent).unwrap();
    let mut pid = [0; 4];
    socket.read_exact(&mut pid).unwrap();
    let pid = i32::from_ne_bytes(pid);
    let exited = watcher.watch(pid).unwrap();
    let reaped = watcher.watch_reaped(pid);
    let outcome = exited.wait().unwrap().outcome();
    assert_eq!(outcome, Outcome::Unknown(Unknown::NotAChild));
    assert!(is_zombie(exited.pid()));
    match reaped {
        // Before Linux 6.9.
        Err(WatchError::Unsupported) => socket.write_all(b"r").unwrap(),
        Err(other) => panic!("{other:?}"),
        Ok(reaped) => {
            assert_eq!(reaped.wait_timeout(Duration::from_millis(20)), Ok(None));
            socket.write_all(b"r").unwrap();
            let outcome = reaped.wait().unwrap().outcome();
            // The status is known from Linux 6.15 on.
            assert!(
                outcome == Outcome::Exited(9) || outcome == Outcome::Unknown(Unknown::NotAChild),
                "{outcome:?}"
            );
        }
    }
    socket.write_all(b"e").unwrap();
    assert!(parent.wait().unwrap().success());
}
