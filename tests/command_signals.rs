//! Signals and threads around the start of a child that shares the memory of this process.

mod common;

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::*;
use exitring::{Command, Outcome, Watcher};

static HANDLED: AtomicU64 = AtomicU64::new(0);
static IN_CHILD: AtomicU64 = AtomicU64::new(0);
static PARENT: AtomicI32 = AtomicI32::new(0);

extern "C" fn count(_signal: libc::c_int) {
    // SAFETY: a bare system call.
    let pid = unsafe { libc::getpid() };
    // Both are in memory that a child would share.
    match pid == PARENT.load(Ordering::Relaxed) {
        true => &HANDLED,
        false => &IN_CHILD,
    }
    .fetch_add(1, Ordering::Relaxed);
}

fn handle(signal: i32, handler: extern "C" fn(libc::c_int)) {
    // SAFETY: the handler is async-signal-safe.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_RESTART;
        assert_eq!(
            libc::sigaction(signal, &raw const action, std::ptr::null_mut()),
            0
        );
    }
}

/// Both ways to make the child: where `clone3` is denied, the child has copies of the handlers.
fn with_and_without_clone3(test: &str) {
    run_in_own_process(test, |_| ());
    run_in_own_process(test, |command| {
        use std::os::unix::process::CommandExt;
        let deny = || common::deny::deny(libc::SYS_clone3, libc::ENOSYS);
        // SAFETY: `deny` makes system calls only.
        unsafe { command.pre_exec(deny) };
    });
}

#[test]
fn no_handler_runs_in_a_child() {
    if !in_own_process() {
        return with_and_without_clone3("no_handler_runs_in_a_child");
    }
    // SAFETY: bare system calls. A group of its own, so that nobody else gets the signals.
    unsafe {
        libc::setpgid(0, 0);
        PARENT.store(libc::getpid(), Ordering::Relaxed);
    }
    // Its default action is to be ignored, so a child that gets it lives on.
    handle(libc::SIGURG, count);
    let watcher = Watcher::new().unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                // SAFETY: a bare system call.
                unsafe { libc::kill(0, libc::SIGURG) };
            }
        });
        for _ in 0..300 {
            let child = watcher.spawn(&mut Command::new("true")).unwrap();
            assert_eq!(child.wait().unwrap().outcome(), Outcome::Exited(0));
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(HANDLED.load(Ordering::Relaxed) > 0);
    assert_eq!(IN_CHILD.load(Ordering::Relaxed), 0);
}

/// Ctrl-Z at the moment of a start must not leave a stopped child that nobody continues, for which
/// the calling thread would wait.
#[test]
fn a_stop_of_the_group_does_not_stop_a_child_that_leaves_it() {
    if !in_own_process() {
        return with_and_without_clone3("a_stop_of_the_group_does_not_stop_a_child_that_leaves_it");
    }
    // SAFETY: bare system calls.
    unsafe { libc::setpgid(0, 0) };
    // The handler keeps this process running, and children that have not left the group yet get
    // the signal as well.
    extern "C" fn nothing(_signal: libc::c_int) {}
    handle(libc::SIGTSTP, nothing);
    let watcher = Watcher::new().unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                // SAFETY: a bare system call.
                unsafe { libc::kill(0, libc::SIGTSTP) };
            }
        });
        let start = Instant::now();
        for number in 0..300 {
            let mut command = Command::new("true");
            match number % 2 {
                0 => command.process_group(0),
                _ => command.session(),
            };
            let child = watcher.spawn(&mut command).unwrap();
            let exit = child.wait_timeout(TEST_TIMEOUT).unwrap();
            assert!(exit.is_some_and(|exit| exit.success()), "it was stopped");
            assert!(start.elapsed() < 4 * TEST_TIMEOUT);
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn many_threads_start_children_at_once() {
    let watcher = Watcher::new().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let watcher = &watcher;
            scope.spawn(move || {
                for number in 0..25 {
                    let code = (thread * 25 + number) % 256;
                    let mut command = Command::new("sh");
                    command.args(["-c", &format!("exit {code}")]);
                    let child = watcher.spawn(&mut command).unwrap();
                    assert_eq!(child.wait().unwrap().outcome(), Outcome::Exited(code));
                    let error = watcher.spawn(Command::new("true").current_dir("/no/such"));
                    assert!(message(error.unwrap_err()).contains("/no/such"));
                }
            });
        }
    });
    let stats = until_stats(&watcher, "all are reaped", |stats| stats.watched == 0);
    assert_eq!(stats.watched, 0);
}

/// A thread that changes the user of the process needs every thread to answer a signal, also one
/// that is suspended until its child has executed a program.
#[test]
fn a_change_of_the_user_meets_a_start() {
    if !in_own_process() {
        return with_and_without_clone3("a_change_of_the_user_meets_a_start");
    }
    let watcher = Watcher::new().unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                // SAFETY: a bare call, to the user that this process has.
                unsafe { assert_eq!(libc::setuid(libc::getuid()), 0) };
                std::thread::sleep(Duration::from_micros(100));
            }
        });
        for _ in 0..200 {
            let child = watcher.spawn(&mut Command::new("true")).unwrap();
            assert!(child.wait().unwrap().success());
        }
        stop.store(true, Ordering::Relaxed);
    });
}
