//! Which process a pid means: reused pids, an exec by another thread, the end of the first thread.
//!
//! The tests of reused pids set the next pid that the kernel assigns, which takes root; as another
//! user they test nothing.

mod common;

use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::time::Duration;

use common::*;
use exitring::{Outcome, Pid, SignalError, Unknown, Watch, Watcher};

/// How often a test tries to get a pid again that other processes may get first.
const ATTEMPTS: usize = 100;

/// Makes the kernel assign this pid next, unless another process is created in between. False if
/// that is not permitted.
fn request_next_pid(pid: Pid) -> bool {
    let last_pid = (pid.as_raw() - 1).to_string();
    let permitted = std::fs::write("/proc/sys/kernel/ns_last_pid", last_pid).is_ok();
    if !permitted {
        eprintln!("not tested: it takes root to choose a pid");
    }
    permitted
}

/// Adopting a child that `std` has reaped must not affect the process that has its pid now.
#[test]
fn adopting_a_reaped_child_does_not_affect_the_next_process_with_its_pid() {
    if !in_own_process() {
        return run_in_own_process(
            "adopting_a_reaped_child_does_not_affect_the_next_process_with_its_pid",
            |_| (),
        );
    }
    let watcher = Watcher::new().unwrap();
    for _ in 0..ATTEMPTS {
        let mut waited = sh("exit 7").spawn().unwrap();
        waited.wait().unwrap();
        if !request_next_pid(Pid::try_from(waited.id()).unwrap()) {
            return;
        }
        let mut next = sleep().spawn().unwrap();
        if next.id() == waited.id() {
            let adopted = watcher.adopt(waited).unwrap();
            assert_eq!(adopted.wait().unwrap().outcome(), Outcome::Exited(7));
            let signalled = adopted.signal(libc::SIGKILL);
            assert!(matches!(signalled, Err(SignalError::Exited)));
            assert_eq!(next.try_wait().unwrap(), None, "it still runs");
            next.kill().unwrap();
            next.wait().unwrap();
            return;
        }
        // Another process got the pid.
        next.kill().unwrap();
        next.wait().unwrap();
    }
    panic!("other processes always got the pid");
}

/// Another part of the program reaps an owned child while the ring thread runs a callback. When the
/// ring thread queries the status, another child has the pid.
#[test]
fn a_child_reaped_elsewhere_is_not_mistaken_for_the_next_process_with_its_pid() {
    if !in_own_process() {
        return run_in_own_process(
            "a_child_reaped_elsewhere_is_not_mistaken_for_the_next_process_with_its_pid",
            |_| (),
        );
    }
    for _ in 0..ATTEMPTS {
        let watcher = Watcher::builder().workers(0).build().unwrap();
        if watcher.stats().backend == "io_uring" && !kernel_is_at_least(6, 9) {
            eprintln!("not tested: before Linux 6.9 the two cannot be distinguished");
            return;
        }
        let first = watcher
            .spawn(sh("read code; exit 21").stdin(Stdio::piped()))
            .unwrap();
        until_stats(&watcher, "it is armed", |stats| stats.armed == 1);
        let blocking = spawn_true(&watcher);
        let release = block_in_callback(&blocking);

        let pid = first.pid();
        drop(first.stdin.take());
        // SAFETY: a null pointer: no status is wanted.
        while unsafe { libc::waitpid(pid.as_raw(), std::ptr::null_mut(), 0) } != pid.as_raw() {}
        if !request_next_pid(pid) {
            return;
        }
        let mut second = sh("exit 22").spawn().unwrap();
        if second.id() != first.id() {
            second.wait().unwrap();
            continue;
        }
        until("the second child is a zombie", || is_zombie(pid));
        // A reuse that takes longer than 4 ms is detected. The kernel needs longer than that to
        // assign all other pids; this test does not let it, and waits instead.
        std::thread::sleep(Duration::from_millis(10));
        drop(release);
        let outcome = first.wait().unwrap().outcome();
        assert_eq!(outcome, Outcome::Unknown(Unknown::ReapedElsewhere));
        let status = second.wait().unwrap();
        assert_eq!(status.code(), Some(22), "the watcher did not reap it");
        return;
    }
    panic!("other processes always got the pid");
}

/// The thread that calls exec becomes the process, which keeps its pid.
#[test]
fn an_exec_by_a_thread_other_than_the_first_is_no_exit() {
    let watcher = Watcher::new().unwrap();
    let (reader, writer) = pipe();
    // SAFETY: the C library makes its own locks usable after a fork, and the child takes no others.
    let pid = unsafe {
        fork(move || {
            let exec = std::thread::spawn(move || {
                let error = sh("read line; exit 5").stdin(reader).exec();
                panic!("{error}");
            });
            let _ = exec.join();
            1
        })
    };
    let watch = watcher.watch(pid).unwrap();
    // A forked child has the name of the thread that forked it.
    let name_of = |task: &str| std::fs::read_to_string(format!("/proc/{task}/comm"));
    let forked = name_of("thread-self").unwrap();
    until("it is a shell", || {
        name_of(&pid.to_string()).is_ok_and(|name| name != forked)
    });
    assert_eq!(watch.wait_timeout(Duration::from_millis(20)), Ok(None));
    drop(writer);
    assert_eq!(watch.wait().unwrap().outcome(), Outcome::Exited(5));
    assert_eq!(reap(pid), 5);
}

/// The first thread is a zombie then, but the process is not.
#[test]
fn a_process_whose_first_thread_has_ended_lives_until_its_last_thread_ends() {
    let watcher = Watcher::new().unwrap();
    let start = || {
        let (reader, writer) = pipe();
        let parents_end = writer.as_raw_fd();
        // SAFETY: the C library makes its own locks usable after a fork, and the child takes no
        // others. The descriptor is open, and nothing in the child uses it. SYS_exit ends this
        // thread only.
        let pid = unsafe {
            fork(move || {
                libc::close(parents_end);
                std::thread::spawn(move || {
                    let mut reader = reader;
                    let _ = reader.read(&mut [0]);
                    exit_now(9);
                });
                libc::syscall(libc::SYS_exit, 0);
                1
            })
        };
        until("the first thread has ended", || is_zombie(pid));
        (pid, writer)
    };
    let check = |watch: &Watch, writer: File| {
        assert_eq!(watch.wait_timeout(Duration::from_millis(20)), Ok(None));
        drop(writer);
        assert_eq!(watch.wait().unwrap().outcome(), Outcome::Exited(9));
    };
    let (pid, writer) = start();
    check(&watcher.watch(pid).unwrap(), writer);
    assert_eq!(reap(pid), 9);
    let (pid, writer) = start();
    check(&watcher.adopt_pid(pid).unwrap(), writer);
}

/// The ring thread runs a callback and sees the exit late. By then the process was reaped, and
/// another child has its pid.
#[test]
fn a_reused_pid_is_not_mistaken_for_the_watched_process() {
    let test = "a_reused_pid_is_not_mistaken_for_the_watched_process";
    if !in_own_process() {
        return run_in_own_process(test, |_| ());
    }
    for _ in 0..ATTEMPTS {
        let watcher = Watcher::builder().workers(0).build().unwrap();
        let gate = ExitGate::new();
        let first = gate.fork(21);
        let watch = watcher.watch(first).unwrap();
        until_stats(&watcher, "it is armed", |stats| stats.armed == 1);
        let ended = zombie(0);
        let blocking = watcher.watch(ended.pid()).unwrap();
        let release = block_in_callback(&blocking);

        gate.open();
        assert_eq!(reap(first), 21);
        if !request_next_pid(first) {
            return;
        }
        let gate = ExitGate::new();
        let second = gate.fork(22);
        if second != first {
            // Another process got the pid.
            gate.open();
            reap(second);
            continue;
        }
        let watch_of_second = watcher.watch(second).unwrap();
        drop(release);
        let outcome = watch.wait().unwrap().outcome();
        // From Linux 6.15 on, and through a pidfd that was kept open, the kernel reports the status
        // also after the reap.
        let unknown = Outcome::Unknown(Unknown::ReapedElsewhere);
        assert!(
            outcome == Outcome::Exited(21) || outcome == unknown,
            "{outcome:?}"
        );
        assert_eq!(
            watch_of_second.wait_timeout(Duration::from_millis(20)),
            Ok(None)
        );
        gate.open();
        assert_eq!(
            watch_of_second.wait().unwrap().outcome(),
            Outcome::Exited(22)
        );
        assert_eq!(reap(second), 22);
        return;
    }
    panic!("other processes always got the pid");
}
