//! Forking with a watcher: children of its own, and copies of it in children.

mod common;

use std::time::Duration;

use common::*;
use exitring::{Cancel, Closed, Outcome, WaitError, WatchError, Watcher};

fn reap(pid: exitring::Pid) -> i32 {
    let mut status = 0;
    // SAFETY: the pointer is to a live integer.
    let reaped = unsafe { libc::waitpid(pid.as_raw(), &raw mut status, 0) };
    assert_eq!(reaped, pid.as_raw(), "it is ours to reap");
    status
}

#[test]
fn a_forked_child_is_watched_and_left_to_its_parent_to_reap() {
    let watcher = Watcher::new().unwrap();
    for code in [0, 1, 42, 255] {
        // SAFETY: the child only exits.
        let watch = unsafe { watcher.fork_watchable(|| libc::_exit(code)) }.unwrap();
        assert_eq!(watch.wait().unwrap().outcome(), Outcome::Exited(code));
        assert_eq!(reap(watch.pid()), code << 8);
    }
}

#[test]
fn a_forked_child_that_returns_ends_with_0_and_one_that_panics_with_101() {
    let watcher = Watcher::new().unwrap();
    // SAFETY: the child does nothing.
    let watch = unsafe { watcher.fork_watchable(|| ()) }.unwrap();
    assert_eq!(watch.wait().unwrap().outcome(), Outcome::Exited(0));
    reap(watch.pid());
    // SAFETY: the panic message needs the allocator and stderr's lock, which nobody else here
    // holds for long; the child would hang otherwise, and be found out.
    let watch = unsafe { watcher.fork_watchable(|| std::panic::resume_unwind(Box::new(()))) };
    let watch = watch.unwrap();
    assert_eq!(watch.wait().unwrap().outcome(), Outcome::Exited(101));
    reap(watch.pid());
}

#[test]
fn a_child_forked_in_a_callback_has_no_signals_blocked() {
    each_worker_count(|watcher| {
        let watcher = std::sync::Arc::new(watcher);
        let child = zombie(0);
        let watch = watcher.watch(child.pid()).unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        watch
            .on_exit({
                let watcher = watcher.clone();
                move |_| {
                    // SAFETY: the child makes system calls only.
                    let watch = unsafe {
                        watcher.fork_watchable(|| {
                            libc::signal(libc::SIGTERM, libc::SIG_DFL);
                            libc::raise(libc::SIGTERM);
                        })
                    };
                    sender.send(watch.unwrap()).unwrap();
                }
            })
            .unwrap();
        let watch = receive(&receiver);
        let signaled = Outcome::Signaled {
            signal: libc::SIGTERM,
            core_dumped: false,
        };
        assert_eq!(watch.wait().unwrap().outcome(), signaled);
        reap(watch.pid());
    });
}

/// In a child of a program with threads only what takes no lock may be done, which is just what
/// is to be shown of every call here; it prints nothing and ends by itself.
fn in_forked_child(child: impl FnOnce() -> bool) {
    // SAFETY: see above; the calls are refused before they touch a lock.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let well = child();
        // SAFETY: ends the process at once.
        unsafe { libc::_exit(i32::from(!well)) };
    }
    let pid = exitring::Pid::new(pid).unwrap();
    let mut status = 0;
    until("the forked child ends", || {
        // SAFETY: the pointer is to a live integer.
        unsafe { libc::waitpid(pid.as_raw(), &raw mut status, libc::WNOHANG) == pid.as_raw() }
    });
    assert_eq!(status, 0, "a call in the child went wrong");
}

#[test]
fn a_forked_childs_copy_of_a_watcher_refuses_everything_and_never_hangs() {
    // It takes all the descriptors it can get for a moment, which other tests may need.
    if !alone() {
        return run_alone(
            "a_forked_childs_copy_of_a_watcher_refuses_everything_and_never_hangs",
            |_| (),
        );
    }
    let watcher = Watcher::builder().workers(2).build().unwrap();
    let live = Obedient::spawn();
    let ended = zombie(1);
    let live_watch = watcher.watch(live.pid()).unwrap();
    let ended_watch = watcher.watch(ended.pid()).unwrap();
    let callback = live_watch.on_exit(|_| ()).unwrap();
    let exit = ended_watch.wait().unwrap();
    // Some hundred watches and busy threads, so that a lock is likely to be held at the fork.
    let many: Vec<_> = (0..300)
        .map(|_| watcher.watch(live.pid()).unwrap())
        .collect();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                drop(watcher.watch(live.pid()).unwrap());
                let _ = watcher.stats();
            }
        });
        for _ in 0..50 {
            in_forked_child(|| {
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
                // SAFETY: bitwise copies, of which the child drops one and never gets to the other.
                unsafe {
                    drop(std::ptr::read(&raw const many));
                    drop(std::ptr::read(&raw const watcher));
                }
                refused
            });
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    // The parent's goes on.
    let ended = zombie(5);
    let outcome = watcher
        .watch(ended.pid())
        .unwrap()
        .wait()
        .unwrap()
        .outcome();
    assert_eq!(outcome, Outcome::Exited(5));
}

/// Goes on in a child that has the same pid as this process, in a pid namespace of its own; the child ends with code 0 if
/// `child` says so. `None` where that is not permitted. Makes system calls only.
fn fork_with_the_same_pid(pid: libc::pid_t, child: impl FnOnce() -> bool) -> Option<bool> {
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
        // The first in the namespace is pid 1, and chooses the next one's.
        let first = libc::fork();
        if first == 0 {
            let mut arguments: libc::clone_args = std::mem::zeroed();
            arguments.exit_signal = libc::SIGCHLD as u64;
            arguments.set_tid = (&raw const pid) as u64;
            arguments.set_tid_size = 1;
            let size = size_of_val(&arguments);
            let second = libc::syscall(libc::SYS_clone3, &raw mut arguments, size);
            if second == 0 {
                let well = libc::getpid() == pid && child();
                libc::_exit(i32::from(!well));
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
fn a_forked_child_with_its_parents_pid_is_told_from_it() {
    let watcher = Watcher::new().unwrap();
    let ended = zombie(1);
    let exits = watcher.exits(1).unwrap();
    let child = watcher
        .spawn(std::process::Command::new("sleep").arg("1000"))
        .unwrap();
    let pid = std::process::id() as libc::pid_t;
    in_forked_child(|| {
        let told = fork_with_the_same_pid(pid, || {
            let refused = matches!(
                watcher.watch(ended.pid()),
                Err(WatchError::Closed(Closed::ForkedChild))
            ) && watcher.check() == Err(Closed::ForkedChild)
                && exits.add(&child, 0) == Err(exitring::AddError::Closed(Closed::ForkedChild))
                && child.wait() == Err(WaitError::Closed(Closed::ForkedChild))
                && watcher.stats().backend.is_empty();
            // SAFETY: a bitwise copy, and the other is never dropped.
            unsafe { drop(std::ptr::read(&raw const watcher)) };
            refused
        });
        if told.is_none() {
            let text = "not shown: a pid namespace is not permitted here\n";
            // SAFETY: the bytes are live.
            unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
        }
        told.unwrap_or(true)
    });
    assert_eq!(watcher.check(), Ok(()));
    child.kill().unwrap();
}

#[test]
fn a_child_forked_in_a_callback_may_build_a_watcher_and_wait() {
    each_worker_count(|watcher| {
        let child = watcher
            .spawn(&mut std::process::Command::new("true"))
            .unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        child
            .on_exit(move |_| {
                in_forked_child(|| {
                    let watcher = Watcher::new().unwrap();
                    let child = watcher.spawn(&mut std::process::Command::new("true"));
                    child.unwrap().wait().is_ok_and(|exit| exit.success())
                });
                sender.send(()).unwrap();
            })
            .unwrap();
        receive(&receiver);
    });
}

#[test]
fn a_forked_childs_copy_of_a_compat_watcher_refuses_everything_and_never_hangs() {
    // The child panics, and the message would need locks that other tests' threads may hold.
    let name = "a_forked_childs_copy_of_a_compat_watcher_refuses_everything_and_never_hangs";
    if !alone() {
        return run_alone(name, |_| ());
    }
    let watcher = exitring::compat::ChildPidWatcher::new();
    let live = Obedient::spawn();
    let pid = live.pid();
    watcher.register_pid(pid);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::panic::set_hook(Box::new(|_| ()));
    std::thread::scope(|scope| {
        // So that the book is likely to be locked at the fork.
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let handle = watcher.register_callback(pid, |_| ());
                watcher.unregister_callback(pid, handle);
            }
        });
        for _ in 0..50 {
            in_forked_child(|| {
                watcher.unregister_callback(pid, 1);
                watcher.unregister_pid(pid);
                let add = || watcher.register_callback(pid, |_| ());
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(add)).is_err()
            });
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn a_vforked_child_is_refused_by_a_watcher_as_a_forked_one_is() {
    let watcher = Watcher::new().unwrap();
    let ended = zombie(1);
    let pid = ended.pid();
    // SAFETY: the child makes calls that are refused, and ends.
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
fn an_execed_child_inherits_no_descriptor() {
    let watcher = Watcher::new().unwrap();
    let child = Obedient::spawn();
    let _watch = watcher.watch(child.pid()).unwrap();
    let output = std::process::Command::new("ls")
        .args(["-l", "/proc/self/fd"])
        .output()
        .unwrap();
    let listed = String::from_utf8(output.stdout).unwrap();
    for file in ["io_uring", "eventfd", "pidfd"] {
        assert!(!listed.contains(file), "{listed}");
    }
}

#[test]
fn a_vforked_child_is_watched_and_left_to_its_parent_to_reap() {
    let watcher = Watcher::new().unwrap();
    let program = c"/bin/sh";
    let arguments = [
        program.as_ptr(),
        c"-c".as_ptr(),
        c"exit 21".as_ptr(),
        std::ptr::null(),
    ];
    // SAFETY: the child execs or ends.
    let watch = unsafe {
        watcher.vfork_watchable(|| {
            libc::execv(program.as_ptr(), arguments.as_ptr());
            libc::_exit(127);
        })
    };
    let watch = watch.unwrap();
    assert_eq!(watch.wait().unwrap().outcome(), Outcome::Exited(21));
    assert_eq!(reap(watch.pid()), 21 << 8);
}

#[test]
fn a_vforked_child_that_returns_or_panics_ends_and_what_it_took_is_dropped_once() {
    let watcher = Watcher::new().unwrap();
    for (panics, code) in [(false, 0), (true, 101)] {
        let captured = std::sync::Arc::new(());
        let inside = captured.clone();
        // SAFETY: it drops a reference, which is what the parent expects to be changed. Unwinding
        // needs the allocator, which is as good as this thread's own.
        let watch = unsafe {
            watcher.vfork_watchable(move || {
                let _inside = inside;
                if panics {
                    std::panic::resume_unwind(Box::new(()));
                }
            })
        };
        let watch = watch.unwrap();
        assert_eq!(watch.wait().unwrap().outcome(), Outcome::Exited(code));
        reap(watch.pid());
        assert_eq!(std::sync::Arc::strong_count(&captured), 1);
    }
}

#[test]
fn a_vforked_child_has_no_handlers_and_the_parents_mask() {
    extern "C" fn handler(_: libc::c_int) {
        // SAFETY: ends the process: it is not to be called.
        unsafe { libc::_exit(99) };
    }
    let watcher = Watcher::new().unwrap();
    // SAFETY: the handler is async-signal-safe; nothing sends the signal to the parent.
    unsafe { libc::signal(libc::SIGUSR2, handler as *const () as libc::sighandler_t) };
    // SAFETY: system calls only.
    let watch = unsafe {
        watcher.vfork_watchable(|| {
            libc::raise(libc::SIGUSR2);
        })
    }
    .unwrap();
    let signaled = Outcome::Signaled {
        signal: libc::SIGUSR2,
        core_dumped: false,
    };
    assert_eq!(watch.wait().unwrap().outcome(), signaled);
    reap(watch.pid());
    // SAFETY: only asks.
    let parents = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(libc::SIGUSR2, std::ptr::null(), &raw mut action);
        action.sa_sigaction
    };
    assert_eq!(parents, handler as *const () as libc::sighandler_t);
}
