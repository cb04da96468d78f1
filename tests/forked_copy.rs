//! Copies of watchers and handles in forked children, where the threads behind them do not exist.

mod common;

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use common::*;
use exitring::compat::ChildPidWatcher;
use exitring::{AddError, Cancel, Closed, Outcome, WaitError, WatchError, Watcher};

/// Runs a function in a forked child, and fails unless it returns true in time. In a child of a
/// program with threads only calls that take no lock are safe. The tests show that the calls to a
/// copy of a watcher are such calls.
#[track_caller]
fn assert_in_forked_child(child: impl FnOnce() -> bool) {
    // SAFETY: the calls are refused before they take a lock.
    let pid = unsafe { fork(|| i32::from(!child())) };
    let mut status = 0;
    until("the forked child ends", || {
        // SAFETY: the pointer is to a live integer.
        unsafe { libc::waitpid(pid.as_raw(), &raw mut status, libc::WNOHANG) == pid.as_raw() }
    });
    assert_eq!(status, 0, "a call in the child had the wrong result");
}

#[test]
fn a_copy_of_a_watcher_in_a_forked_child_refuses_every_call_and_never_hangs() {
    // The test opens many descriptors for a moment, and other tests may need them.
    if !in_own_process() {
        return run_in_own_process(
            "a_copy_of_a_watcher_in_a_forked_child_refuses_every_call_and_never_hangs",
            |_| (),
        );
    }
    let watcher = Watcher::builder().workers(2).build().unwrap();
    let live = ControlledChild::spawn();
    let ended = zombie(1);
    let live_watch = watcher.watch(live.pid()).unwrap();
    let ended_watch = watcher.watch(ended.pid()).unwrap();
    let callback = live_watch.on_exit(|_| ()).unwrap();
    let exit = ended_watch.wait().unwrap();
    // With hundreds of watches and a busy thread, a lock is probably held at the fork.
    let many: Vec<_> = (0..300)
        .map(|_| watcher.watch(live.pid()).unwrap())
        .collect();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                drop(watcher.watch(live.pid()).unwrap());
                let _ = watcher.stats();
            }
        });
        for _ in 0..50 {
            assert_in_forked_child(|| {
                let forked = Closed::ForkedChild;
                let refused = matches!(
                    watcher.watch(std::process::id()),
                    Err(WatchError::Closed(Closed::ForkedChild))
                ) && live_watch.wait() == Err(WaitError::Closed(forked))
                    && live_watch.wait_timeout(Duration::ZERO) == Err(WaitError::Closed(forked))
                    && live_watch.on_exit(|_| ()) == Err(forked)
                    && live_watch.cancel(callback) == Cancel::NotPending
                    && live_watch.exit().is_none()
                    && ended_watch.exit().as_ref() == Some(&exit)
                    && watcher.stats().watched == 0;
                // SAFETY: bitwise copies: the child drops each once and never drops the originals.
                unsafe {
                    drop(std::ptr::read(&raw const many));
                    drop(std::ptr::read(&raw const watcher));
                }
                refused
            });
        }
        stop.store(true, Ordering::Relaxed);
    });
    // The watcher of the parent still works.
    let ended = zombie(5);
    let outcome = watcher
        .watch(ended.pid())
        .unwrap()
        .wait()
        .unwrap()
        .outcome();
    assert_eq!(outcome, Outcome::Exited(5));
}

/// Runs a function in a child with the given pid, in a new pid namespace, and returns its result.
/// `None` if a pid namespace is not permitted. Makes system calls only.
fn fork_with_pid(pid: libc::pid_t, child: impl FnOnce() -> bool) -> Option<bool> {
    let wait = |pid: libc::pid_t| {
        let mut status = 0;
        // SAFETY: the pointer is to a live integer.
        let reaped = unsafe { libc::waitpid(pid, &raw mut status, 0) };
        (reaped == pid && libc::WIFEXITED(status)).then(|| libc::WEXITSTATUS(status))
    };
    // SAFETY: system calls, with pointers to live values.
    unsafe {
        if libc::unshare(libc::CLONE_NEWPID) != 0
            && libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWPID) != 0
        {
            return None;
        }
        // The first process of the namespace has pid 1, and chooses the pid of the second.
        let first = libc::fork();
        if first == 0 {
            let mut arguments: libc::clone_args = std::mem::zeroed();
            arguments.exit_signal = libc::SIGCHLD as u64;
            arguments.set_tid = (&raw const pid) as u64;
            arguments.set_tid_size = 1;
            let size = size_of_val(&arguments);
            let second = libc::syscall(libc::SYS_clone3, &raw mut arguments, size);
            if second == 0 {
                let passed = libc::getpid() == pid && child();
                libc::_exit(i32::from(!passed));
            }
            libc::_exit(match second {
                -1 => 2,
                _ => wait(second as libc::pid_t).unwrap_or(3),
            });
        }
        match wait(first) {
            Some(0) => Some(true),
            Some(2) => None,
            _ => Some(false),
        }
    }
}

#[test]
fn a_forked_child_with_the_pid_of_its_parent_is_distinguished_from_it() {
    let watcher = Watcher::new().unwrap();
    let ended = zombie(1);
    let exits = watcher.exits(1).unwrap();
    let child = watcher.spawn(&mut sleep()).unwrap();
    let pid = std::process::id() as libc::pid_t;
    assert_in_forked_child(|| {
        let passed = fork_with_pid(pid, || {
            let refused = matches!(
                watcher.watch(ended.pid()),
                Err(WatchError::Closed(Closed::ForkedChild))
            ) && watcher.check() == Err(Closed::ForkedChild)
                && exits.add(&child, 0) == Err(AddError::Closed(Closed::ForkedChild))
                && child.wait() == Err(WaitError::Closed(Closed::ForkedChild))
                && watcher.stats().backend.is_empty();
            // SAFETY: a bitwise copy, and the original is never dropped here.
            unsafe { drop(std::ptr::read(&raw const watcher)) };
            refused
        });
        if passed.is_none() {
            let text = "not tested: a pid namespace is not permitted here\n";
            // SAFETY: the bytes are live.
            unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
        }
        passed.unwrap_or(true)
    });
    assert_eq!(watcher.check(), Ok(()));
    child.kill().unwrap();
}

#[test]
fn a_child_forked_in_a_callback_may_build_a_watcher_and_wait() {
    each_worker_count(|watcher| {
        let child = spawn_true(&watcher);
        let (sender, receiver) = mpsc::channel();
        child
            .on_exit(move |_| {
                assert_in_forked_child(|| {
                    let watcher = Watcher::new().unwrap();
                    let child = watcher.spawn(&mut Command::new("true"));
                    child.unwrap().wait().is_ok_and(|exit| exit.success())
                });
                sender.send(()).unwrap();
            })
            .unwrap();
        receive(&receiver);
    });
}

#[test]
fn a_copy_of_a_compat_watcher_in_a_forked_child_refuses_every_call_and_never_hangs() {
    // The child panics, and a panic may need locks that the threads of other tests hold.
    let name = "a_copy_of_a_compat_watcher_in_a_forked_child_refuses_every_call_and_never_hangs";
    if !in_own_process() {
        return run_in_own_process(name, |_| ());
    }
    let watcher = ChildPidWatcher::new();
    let live = ControlledChild::spawn();
    let pid = live.pid();
    watcher.register_pid(pid);
    let stop = AtomicBool::new(false);
    std::panic::set_hook(Box::new(|_| ()));
    std::thread::scope(|scope| {
        // The table of pids is probably locked at the fork.
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let handle = watcher.register_callback(pid, |_| ());
                watcher.unregister_callback(pid, handle);
            }
        });
        for _ in 0..50 {
            assert_in_forked_child(|| {
                watcher.unregister_callback(pid, 1);
                watcher.unregister_pid(pid);
                let add = || watcher.register_callback(pid, |_| ());
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(add)).is_err()
            });
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_vforked_child_is_refused_like_a_forked_child() {
    let watcher = Watcher::new().unwrap();
    let ended = zombie(1);
    let pid = ended.pid();
    // SAFETY: the child makes calls that are refused, and exits.
    let watch = unsafe {
        watcher.vfork_watchable(|| {
            let refused = watcher.check() == Err(Closed::ForkedChild)
                && matches!(
                    watcher.watch(pid),
                    Err(WatchError::Closed(Closed::ForkedChild))
                );
            libc::_exit(i32::from(!refused));
        })
    };
    let watch = watch.unwrap();
    assert_eq!(watch.wait().unwrap().outcome(), Outcome::Exited(0));
    reap(watch.pid());
    assert_eq!(watcher.check(), Ok(()));
}

#[test]
fn a_forked_child_drops_a_thousand_handles_and_a_watcher_and_exits_cleanly() {
    let test = "a_forked_child_drops_a_thousand_handles_and_a_watcher_and_exits_cleanly";
    if !in_own_process() {
        return run_in_own_process(test, |_| ());
    }
    for workers in [0, 2] {
        let watcher = Watcher::builder().workers(workers).build().unwrap();
        let gate = ExitGate::new();
        let (sender, receiver) = mpsc::channel();
        let children: Vec<_> = (0..1000)
            .map(|_| {
                let child = watcher.adopt_pid(gate.fork(3)).unwrap();
                let sender = sender.clone();
                child
                    .on_exit(move |exit| sender.send(exit.outcome()).unwrap())
                    .unwrap();
                child
            })
            .collect();
        let (mut watcher, mut children) = (Some(watcher), Some(children));
        // SAFETY: the C library makes the allocator's locks usable after a fork, and the drops take
        // no others.
        let forked = unsafe {
            fork(|| {
                drop(children.take());
                drop(watcher.take());
                0
            })
        };
        assert_eq!(reap(forked), 0);
        gate.open();
        for _ in 0..1000 {
            assert_eq!(receive(&receiver), Outcome::Exited(3));
        }
        drop(children);
        drop(watcher);
        // The other senders were dropped with the callbacks.
        drop(sender);
        assert_eq!(receiver.recv(), Err(mpsc::RecvError));
    }
}
