//! The signal masks of the watcher's threads, and of children created on them.

mod common;

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Wake};

use common::*;
use exitring::{Outcome, Pid, Watcher};

/// The mask of the calling thread, in the format of `SigBlk` in `/proc/<pid>/status`.
/// Async-signal-safe.
fn own_mask() -> u64 {
    // SAFETY: a plain C structure for which all zeroes is a valid value, filled by the call.
    unsafe {
        let mut mask: libc::sigset_t = std::mem::zeroed();
        libc::pthread_sigmask(libc::SIG_SETMASK, std::ptr::null(), &raw mut mask);
        (1..=64)
            .filter(|signal| libc::sigismember(&raw const mask, *signal) == 1)
            .fold(0, |bits, signal| bits | 1 << (signal - 1))
    }
}

fn bit(signal: libc::c_int) -> u64 {
    1 << (signal - 1)
}

/// Runs `f` on a thread that blocks `SIGUSR1` and nothing else. Threads and children that it starts
/// inherit this mask.
fn with_usr1_blocked(f: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // SAFETY: the set is initialised before it is used.
            unsafe {
                let mut mask: libc::sigset_t = std::mem::zeroed();
                libc::sigaddset(&raw mut mask, libc::SIGUSR1);
                libc::pthread_sigmask(libc::SIG_SETMASK, &raw const mask, std::ptr::null_mut());
            }
            assert_eq!(own_mask(), bit(libc::SIGUSR1));
            f();
        });
    });
}

/// A program that prints its mask.
fn print_mask() -> Command {
    let mut command = Command::new("grep");
    command
        .args(["SigBlk", "/proc/self/status"])
        .stdout(Stdio::piped());
    command
}

fn parse_mask(output: &[u8]) -> u64 {
    let line = String::from_utf8_lossy(output);
    let mask = line.trim().trim_start_matches("SigBlk:").trim();
    u64::from_str_radix(mask, 16).expect("grep found it")
}

/// Creates a child in each way, and returns for each whether it blocks `SIGUSR1` and nothing else.
fn create_children(watcher: &Watcher) -> Vec<(&'static str, bool)> {
    let expected = bit(libc::SIGUSR1);
    let is_right = |command: &mut Command| {
        let output = command.output().expect("grep starts");
        parse_mask(&output.stdout) == expected
    };
    let code = || i32::from(own_mask() != expected);
    let spawn = |watcher: &Watcher| {
        let child = watcher.spawn(&mut print_mask()).expect("grep starts");
        let stdout = child.stdout.take().expect("it is piped");
        let output = std::io::read_to_string(stdout).expect("it can be read");
        parse_mask(output.as_bytes()) == expected
    };
    // SAFETY: all children make system calls only.
    unsafe {
        vec![
            ("the thread itself", code() == 0),
            ("Command (posix_spawn)", is_right(&mut print_mask())),
            (
                "Command with pre_exec (fork)",
                is_right(print_mask().pre_exec(|| Ok(()))),
            ),
            ("Watcher::spawn", spawn(watcher)),
            (
                "spawn of a watcher built here",
                spawn(&Watcher::new().expect("a watcher can be built")),
            ),
            (
                "Command in a thread started here",
                std::thread::spawn(move || {
                    parse_mask(&print_mask().output().unwrap().stdout) == expected
                })
                .join()
                .expect("no panic"),
            ),
            ("fork", wait_status(fork(code)) == 0),
            ("clone", {
                let pid = libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0);
                if pid == 0 {
                    exit_now(code());
                }
                let pid = Pid::new(pid as libc::pid_t).expect("clone works");
                wait_status(pid) == 0
            }),
        ]
    }
}

/// Does the same for the two ways that need pidfds.
fn create_forked_children(watcher: &Watcher) -> Vec<(&'static str, bool)> {
    let expected = bit(libc::SIGUSR1);
    // SAFETY: the children make system calls only.
    unsafe {
        let child = move || exit_now(i32::from(own_mask() != expected));
        let forked = watcher.fork_watchable(child).expect("fork works");
        let vforked = watcher.vfork_watchable(child).expect("vfork works");
        vec![
            ("fork_watchable", wait_status(forked.pid()) == 0),
            ("vfork_watchable", wait_status(vforked.pid()) == 0),
        ]
    }
}

#[track_caller]
fn assert_all_right(children: Vec<(&'static str, bool)>) {
    assert!(children.len() > 1);
    let wrong: Vec<_> = children.iter().filter(|(_, right)| !right).collect();
    assert!(wrong.is_empty(), "wrong mask: {wrong:?}");
}

#[test]
fn a_child_created_in_a_callback_in_any_way_has_the_signal_mask_of_the_builders_thread() {
    with_usr1_blocked(|| {
        each_worker_count(|watcher| {
            let watcher = Arc::new(watcher);
            // More than one callback: the mask is set for the first and kept for the next.
            for _ in 0..2 {
                let child = spawn_true(&watcher);
                let (sender, receiver) = mpsc::channel();
                for _ in 0..2 {
                    let (sender, watcher) = (sender.clone(), watcher.clone());
                    child
                        .on_exit(move |_| {
                            let mut children = create_children(&watcher);
                            if watcher.stats().backend != "threads" {
                                children.extend(create_forked_children(&watcher));
                            }
                            sender.send(children).unwrap();
                        })
                        .unwrap();
                }
                assert_all_right(receive(&receiver));
                assert_all_right(receive(&receiver));
            }
        });
    });
}

/// Sends the mask of a child that is created where this is dropped.
struct SendMaskOnDrop(mpsc::Sender<u64>);

impl Drop for SendMaskOnDrop {
    fn drop(&mut self) {
        let output = print_mask().output().unwrap();
        let _ = self.0.send(parse_mask(&output.stdout));
    }
}

#[test]
fn a_child_created_by_a_waker_or_a_destructor_has_the_signal_mask_of_the_builders_thread() {
    struct SendMaskWaker(Mutex<mpsc::Sender<u64>>);
    impl Wake for SendMaskWaker {
        fn wake(self: Arc<Self>) {
            drop(SendMaskOnDrop(self.0.lock().unwrap().clone()));
        }
    }
    with_usr1_blocked(|| {
        each_worker_count(|watcher| {
            let (sender, receiver) = mpsc::channel();
            let child = watcher.spawn(&mut sleep()).unwrap();
            let waker = Arc::new(SendMaskWaker(sender.clone().into())).into();
            let mut exited = std::pin::pin!(child.exited());
            let polled = exited.as_mut().poll(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
            child.kill().unwrap();
            assert_eq!(receive(&receiver), bit(libc::SIGUSR1), "in a waker");

            let child = watcher.spawn(&mut sleep()).unwrap();
            let captured = SendMaskOnDrop(sender);
            child.on_exit(move |_| drop(captured)).unwrap();
            // The callback is dropped and does not run.
            std::thread::spawn(move || drop(watcher)).join().unwrap();
            let mask = receive(&receiver);
            child.kill().unwrap();
            // The ring thread sets the mask of the builder's thread; the thread that drops the
            // watcher has inherited the same mask.
            assert_eq!(mask, bit(libc::SIGUSR1), "in the drop of captures");
        });
    });
}

/// The names and masks of the library's threads.
fn library_threads() -> Vec<(String, u64)> {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .flatten()
        .filter_map(|task| {
            let name = std::fs::read_to_string(task.path().join("comm")).ok()?;
            let status = std::fs::read_to_string(task.path().join("status")).ok()?;
            let line = status.lines().find(|line| line.starts_with("SigBlk:"))?;
            name.starts_with("exitring")
                .then(|| (name.trim().to_owned(), parse_mask(line.as_bytes())))
        })
        .collect()
}

#[test]
fn every_thread_blocks_asynchronous_and_no_synchronous_signals() {
    if !in_own_process() {
        return run_in_own_process(
            "every_thread_blocks_asynchronous_and_no_synchronous_signals",
            |_| (),
        );
    }
    let check = |expected: &[&str]| {
        let right = |mask: u64| {
            let asynchronous = [libc::SIGTERM, libc::SIGINT, libc::SIGCHLD, libc::SIGUSR1];
            let synchronous = [
                libc::SIGSEGV,
                libc::SIGBUS,
                libc::SIGFPE,
                libc::SIGILL,
                libc::SIGTRAP,
                libc::SIGSYS,
                libc::SIGABRT,
                libc::SIGPROF,
            ];
            asynchronous.iter().all(|signal| mask & bit(*signal) != 0)
                && synchronous.iter().all(|signal| mask & bit(*signal) == 0)
        };
        until("each thread has its name and its mask", || {
            let threads = library_threads();
            let named = |name: &&str| threads.iter().any(|(thread, _)| thread == name);
            expected.iter().all(named) && threads.iter().all(|(_, mask)| right(*mask))
        });
    };
    let before = own_mask();
    let watcher = Watcher::builder().workers(2).build().unwrap();
    assert_eq!(own_mask(), before, "the builder's thread keeps its mask");
    check(&["exitring", "exitring-w0", "exitring-w1"]);
    // Also after a callback.
    let child = spawn_true(&watcher);
    let (sender, receiver) = mpsc::channel();
    child.on_exit(move |_| sender.send(()).unwrap()).unwrap();
    receive(&receiver);
    let child = watcher.spawn(&mut sleep()).unwrap();
    let mut all = vec!["exitring", "exitring-w0", "exitring-w1"];
    if watcher.stats().backend == "threads" {
        all.push("exitring-wait");
    }
    check(&all);
    drop(watcher);
    check(&["exitring-orphan"]);
    child.kill().unwrap();
}

#[expect(unconditional_recursion, reason = "it is to overflow the stack")]
fn overflow(depth: u64) -> u64 {
    let frame = [depth; 64];
    std::hint::black_box(&frame);
    overflow(depth + 1) + frame[3]
}

#[test]
fn a_stack_overflow_in_a_callback_is_reported_as_in_any_thread() {
    let name = "a_stack_overflow_in_a_callback_is_reported_as_in_any_thread";
    if in_own_process() {
        let workers = std::env::var("WORKERS").unwrap().parse().unwrap();
        let watcher = Watcher::builder().workers(workers).build().unwrap();
        let child = spawn_true(&watcher);
        child
            .on_exit(|_| {
                std::hint::black_box(overflow(0));
            })
            .unwrap();
        loop {
            std::thread::park();
        }
    }
    for workers in ["0", "1"] {
        let output = output_of_test(name, |command| {
            command.env("WORKERS", workers);
        });
        let text = String::from_utf8_lossy(&output.stderr);
        // The messages of Rust's handler and of AddressSanitizer's.
        let messages = ["has overflowed its stack", "stack-overflow"];
        assert!(messages.iter().any(|part| text.contains(part)), "{text}");
        assert_ne!(output.status.signal(), Some(libc::SIGSEGV));
    }
}

#[test]
fn a_child_of_a_watcher_that_a_callback_built_is_ended_by_sigterm() {
    let watcher = Watcher::new().unwrap();
    let child = spawn_true(&watcher);
    let (sender, receiver) = mpsc::channel();
    child
        .on_exit(move |_| {
            let inner = Watcher::new().unwrap();
            let child = inner.spawn(&mut sleep()).unwrap();
            child.signal(libc::SIGTERM).unwrap();
            sender.send(child.wait_timeout(TEST_TIMEOUT)).unwrap();
            let _ = child.kill();
        })
        .unwrap();
    let exit = receive(&receiver).unwrap().expect("it ended in time");
    assert!(matches!(
        exit.outcome(),
        Outcome::Signaled {
            signal: libc::SIGTERM,
            ..
        }
    ));
}
