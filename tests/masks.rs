//! Which signals the watcher's threads block, and what children inherit of it.

mod common;

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::sync::{Arc, mpsc};
use std::task::{Context, Wake};

use common::*;
use exitring::{Outcome, Watcher};

/// What the calling thread blocks, as `SigBlk` in `/proc/<pid>/status` has it. Async-signal-safe.
fn blocked() -> u64 {
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

/// Runs `f` on a thread that blocks `SIGUSR1` and nothing else. What it starts inherits that.
fn with_usr1_blocked(f: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // SAFETY: the set is initialised before it is used.
            unsafe {
                let mut mask: libc::sigset_t = std::mem::zeroed();
                libc::sigaddset(&raw mut mask, libc::SIGUSR1);
                libc::pthread_sigmask(libc::SIG_SETMASK, &raw const mask, std::ptr::null_mut());
            }
            assert_eq!(blocked(), bit(libc::SIGUSR1));
            f();
        });
    });
}

fn report() -> Command {
    let mut command = Command::new("grep");
    command
        .args(["SigBlk", "/proc/self/status"])
        .stdout(Stdio::piped());
    command
}

fn reported(output: &[u8]) -> u64 {
    let line = String::from_utf8_lossy(output);
    let mask = line.trim().trim_start_matches("SigBlk:").trim();
    u64::from_str_radix(mask, 16).expect("grep found it")
}

/// The end of a child that exits with 0 if it blocks what it should.
fn reap(pid: libc::pid_t) -> bool {
    let mut status = 0;
    // SAFETY: the pointer is to a live integer.
    let reaped = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!(reaped, pid, "it is ours");
    status == 0
}

/// Makes a child in each way there is, and says of each what it blocks.
fn children_of_all_kinds(watcher: &Watcher) -> Vec<(&'static str, bool)> {
    let expected = bit(libc::SIGUSR1);
    let is_right = |command: &mut Command| {
        let output = command.output().expect("grep is there");
        reported(&output.stdout) == expected
    };
    let code = || i32::from(blocked() != expected);
    let own = |watcher: &Watcher| {
        let child = watcher.spawn(&mut report()).expect("grep is there");
        let mut output = Vec::new();
        let mut stdout = child.stdout.take().expect("it is piped");
        std::io::Read::read_to_end(&mut stdout, &mut output).expect("it can be read");
        reported(&output) == expected
    };
    // SAFETY: all children make system calls only.
    unsafe {
        vec![
            ("the thread itself", code() == 0),
            ("Command (posix_spawn)", is_right(&mut report())),
            (
                "Command with pre_exec (fork)",
                is_right(report().pre_exec(|| Ok(()))),
            ),
            ("Watcher::spawn", own(watcher)),
            (
                "spawn of a watcher built here",
                own(&Watcher::new().expect("one can be built")),
            ),
            (
                "Command in a thread started here",
                std::thread::spawn(move || {
                    reported(&report().output().unwrap().stdout) == expected
                })
                .join()
                .expect("no panic"),
            ),
            ("fork", {
                let pid = libc::fork();
                if pid == 0 {
                    libc::_exit(code());
                }
                reap(pid)
            }),
            ("clone", {
                let pid = libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) as libc::pid_t;
                if pid == 0 {
                    libc::_exit(code());
                }
                reap(pid)
            }),
        ]
    }
}

/// The same of the two ways that need pidfds.
fn forked_watchable(watcher: &Watcher) -> Vec<(&'static str, bool)> {
    let expected = bit(libc::SIGUSR1);
    // SAFETY: the children make system calls only.
    unsafe {
        let end = move || libc::_exit(i32::from(blocked() != expected));
        let forked = watcher.fork_watchable(end).expect("it can be forked");
        let vforked = watcher.vfork_watchable(end).expect("it can be forked");
        vec![
            ("fork_watchable", reap(forked.pid().as_raw())),
            ("vfork_watchable", reap(vforked.pid().as_raw())),
        ]
    }
}

#[track_caller]
fn assert_all(kinds: Vec<(&'static str, bool)>) {
    assert!(kinds.len() > 1);
    let wrong: Vec<_> = kinds.iter().filter(|(_, right)| !right).collect();
    assert!(wrong.is_empty(), "wrong mask: {wrong:?}");
}

#[test]
fn a_child_made_in_a_callback_in_whatever_way_blocks_what_the_builders_thread_blocked() {
    with_usr1_blocked(|| {
        each_worker_count(|watcher| {
            let watcher = Arc::new(watcher);
            // More than one, as the mask is set for the first and kept for the next.
            for _ in 0..2 {
                let child = watcher.spawn(&mut Command::new("true")).unwrap();
                let (sender, receiver) = mpsc::channel();
                for _ in 0..2 {
                    let (sender, watcher) = (sender.clone(), watcher.clone());
                    child
                        .on_exit(move |_| {
                            let mut kinds = children_of_all_kinds(&watcher);
                            if watcher.stats().backend != "threads" {
                                kinds.extend(forked_watchable(&watcher));
                            }
                            sender.send(kinds).unwrap();
                        })
                        .unwrap();
                }
                assert_all(receive(&receiver));
                assert_all(receive(&receiver));
            }
        });
    });
}

/// Reports what the thread blocks that drops it.
struct Tells(mpsc::Sender<u64>);

impl Drop for Tells {
    fn drop(&mut self) {
        let _ = self.0.send(reported(&report().output().unwrap().stdout));
    }
}

#[test]
fn children_made_by_a_waker_or_the_drop_of_captures_block_what_the_builders_thread_blocked() {
    struct Report(std::sync::Mutex<mpsc::Sender<u64>>);
    impl Wake for Report {
        fn wake(self: Arc<Self>) {
            drop(Tells(self.0.lock().unwrap().clone()));
        }
    }
    with_usr1_blocked(|| {
        each_worker_count(|watcher| {
            let (sender, receiver) = mpsc::channel();
            let child = watcher.spawn(Command::new("sleep").arg("1000")).unwrap();
            let waker = Arc::new(Report(sender.clone().into())).into();
            let mut exited = std::pin::pin!(child.exited());
            assert!(
                exited
                    .as_mut()
                    .poll(&mut Context::from_waker(&waker))
                    .is_pending()
            );
            child.kill().unwrap();
            assert_eq!(receive(&receiver), bit(libc::SIGUSR1), "in a waker");

            let child = watcher.spawn(Command::new("sleep").arg("1000")).unwrap();
            let captured = Tells(sender);
            child.on_exit(move |_| drop(captured)).unwrap();
            // Its threads end without running it, and drop it.
            std::thread::spawn(move || drop(watcher)).join().unwrap();
            let mask = receive(&receiver);
            child.kill().unwrap();
            // On the ring thread the builder's; on the dropper's its own, which inherited it.
            assert_eq!(mask, bit(libc::SIGUSR1), "in the drop of captures");
        });
    });
}

/// The masks of the threads of ours, by name.
fn our_threads() -> Vec<(String, u64)> {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .flatten()
        .filter_map(|task| {
            let name = std::fs::read_to_string(task.path().join("comm")).ok()?;
            let status = std::fs::read_to_string(task.path().join("status")).ok()?;
            let line = status.lines().find(|line| line.starts_with("SigBlk:"))?;
            name.starts_with("exitring")
                .then(|| (name.trim().to_owned(), reported(line.as_bytes())))
        })
        .collect()
}

#[test]
fn every_thread_blocks_asynchronous_signals_and_leaves_synchronous_ones_alone() {
    if !alone() {
        return run_alone(
            "every_thread_blocks_asynchronous_signals_and_leaves_synchronous_ones_alone",
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
            let threads = our_threads();
            let named = |name: &&str| threads.iter().any(|(thread, _)| thread == name);
            expected.iter().all(named) && threads.iter().all(|(_, mask)| right(*mask))
        });
    };
    let before = blocked();
    let watcher = Watcher::builder().workers(2).build().unwrap();
    assert_eq!(blocked(), before, "the builder's own thread is as it was");
    check(&["exitring", "exitring-w0", "exitring-w1"]);
    // After callbacks too.
    let child = watcher.spawn(&mut Command::new("true")).unwrap();
    let (sender, receiver) = mpsc::channel();
    child.on_exit(move |_| sender.send(()).unwrap()).unwrap();
    receive(&receiver);
    let child = watcher.spawn(Command::new("sleep").arg("1000")).unwrap();
    let mut all = vec!["exitring", "exitring-w0", "exitring-w1"];
    if watcher.stats().backend == "threads" {
        all.push("exitring-wait");
    }
    check(&all);
    drop(watcher);
    check(&["exitring-orphan"]);
    child.kill().unwrap();
}

#[allow(unconditional_recursion)]
fn overflow(depth: u64) -> u64 {
    let frame = [depth; 64];
    std::hint::black_box(&frame);
    overflow(depth + 1) + frame[3]
}

#[test]
fn a_stack_overflow_in_a_callback_is_reported_as_in_any_thread() {
    let name = "a_stack_overflow_in_a_callback_is_reported_as_in_any_thread";
    if alone() {
        let workers = std::env::var("WORKERS").unwrap().parse().unwrap();
        let watcher = Watcher::builder().workers(workers).build().unwrap();
        let child = watcher.spawn(&mut Command::new("true")).unwrap();
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
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture", "--test-threads=1"])
            .env(ALONE, "1")
            .env("WORKERS", workers)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        // By Rust's handler, or AddressSanitizer's.
        let reported = ["has overflowed its stack", "stack-overflow"];
        assert!(reported.iter().any(|said| text.contains(said)), "{text}");
        assert_ne!(output.status.signal(), Some(libc::SIGSEGV));
    }
}

#[test]
fn a_child_spawned_by_a_watcher_that_a_callback_built_ends_by_sigterm() {
    let watcher = Watcher::new().unwrap();
    let child = watcher.spawn(&mut Command::new("true")).unwrap();
    let (sender, receiver) = mpsc::channel();
    child
        .on_exit(move |_| {
            let inner = Watcher::new().unwrap();
            let child = inner.spawn(Command::new("sleep").arg("1000")).unwrap();
            child.signal(libc::SIGTERM).unwrap();
            sender.send(child.wait_timeout(FOREVER)).unwrap();
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
