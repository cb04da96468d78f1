//! Children of `fork_watchable` and `vfork_watchable`, and what an executed program inherits.

mod common;

use std::process::Command;
use std::sync::{Arc, mpsc};

use common::*;
use exitring::{Outcome, Watcher};

#[test]
fn a_forked_child_is_watched_and_left_for_its_parent_to_reap() {
    let watcher = Watcher::new().unwrap();
    for code in [0, 1, 42, 255] {
        // SAFETY: the child only exits.
        let watch = unsafe { watcher.fork_watchable(|| libc::_exit(code)) }.unwrap();
        assert_eq!(watch.wait().unwrap().outcome(), Outcome::Exited(code));
        assert_eq!(reap(watch.pid()), code);
    }
}

#[test]
fn a_forked_child_that_returns_exits_with_0_and_one_that_panics_with_101() {
    let watcher = Watcher::new().unwrap();
    // SAFETY: the child does nothing.
    let watch = unsafe { watcher.fork_watchable(|| ()) }.unwrap();
    assert_eq!(watch.wait().unwrap().outcome(), Outcome::Exited(0));
    assert_eq!(reap(watch.pid()), 0);
    // SAFETY: unwinding needs the allocator, which no other thread here holds for long. If one did,
    // the child would hang and the test would fail.
    let watch = unsafe { watcher.fork_watchable(|| std::panic::resume_unwind(Box::new(()))) };
    let watch = watch.unwrap();
    assert_eq!(watch.wait().unwrap().outcome(), Outcome::Exited(101));
    assert_eq!(reap(watch.pid()), 101);
}

#[test]
fn a_child_forked_in_a_callback_has_no_signals_blocked() {
    each_worker_count(|watcher| {
        let watcher = Arc::new(watcher);
        let child = zombie(0);
        let watch = watcher.watch(child.pid()).unwrap();
        let (sender, receiver) = mpsc::channel();
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
        assert_eq!(watch.wait().unwrap().outcome(), signaled(libc::SIGTERM));
        assert_eq!(libc::WTERMSIG(wait_status(watch.pid())), libc::SIGTERM);
    });
}

#[test]
fn an_execed_child_inherits_no_descriptor() {
    let watcher = Watcher::new().unwrap();
    let child = ControlledChild::spawn();
    let _watch = watcher.watch(child.pid()).unwrap();
    let output = Command::new("ls")
        .args(["-l", "/proc/self/fd"])
        .output()
        .unwrap();
    let listed = String::from_utf8(output.stdout).unwrap();
    for file in ["io_uring", "eventfd", "pidfd"] {
        assert!(!listed.contains(file), "{listed}");
    }
}

#[test]
fn a_vforked_child_is_watched_and_left_for_its_parent_to_reap() {
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
    assert_eq!(reap(watch.pid()), 21);
}

#[test]
fn a_vforked_child_that_returns_or_panics_exits_and_its_captures_are_dropped_once() {
    let watcher = Watcher::new().unwrap();
    for (panics, code) in [(false, 0), (true, 101)] {
        let captured = Arc::new(());
        let inside = captured.clone();
        // SAFETY: the child drops a reference, which the parent expects. Unwinding needs the
        // allocator, which the child may use as this thread does: they share their memory.
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
        assert_eq!(reap(watch.pid()), code);
        assert_eq!(Arc::strong_count(&captured), 1);
    }
}

#[test]
fn a_vforked_child_has_no_signal_handlers_and_the_mask_of_its_parent() {
    extern "C" fn handler(_: libc::c_int) {
        exit_now(99);
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
    assert_eq!(watch.wait().unwrap().outcome(), signaled(libc::SIGUSR2));
    assert_eq!(libc::WTERMSIG(wait_status(watch.pid())), libc::SIGUSR2);
    // SAFETY: a pointer to a live structure, which the call fills.
    let handler_of_parent = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(libc::SIGUSR2, std::ptr::null(), &raw mut action);
        action.sa_sigaction
    };
    assert_eq!(
        handler_of_parent,
        handler as *const () as libc::sighandler_t
    );
}
