//! Rare ways to end, and to go on living.

mod common;

use std::io::Read;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use common::*;
use exitring::{Outcome, Pid, Unknown, Watch, Watcher};

/// Forks a child that does this and ends with code 0.
fn fork(child: impl FnOnce()) -> Pid {
    // SAFETY: the C library mends its locks after a fork, and the child uses no others.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        child();
        exit(0);
    }
    Pid::new(pid).expect("fork works")
}

fn exit(code: i32) -> ! {
    // SAFETY: ends the process, at once.
    unsafe { libc::_exit(code) }
}

#[test]
fn ten_thousand_exits_go_through_a_queue_of_one_once_each() {
    const CHILDREN: usize = 10_000;
    let test = "ten_thousand_exits_go_through_a_queue_of_one_once_each";
    if !alone() {
        return run_alone(test, |_| ());
    }
    let builder = Watcher::builder().workers(3).queue_capacity(1);
    let watcher = builder.build().unwrap();
    let runs: Arc<Vec<AtomicUsize>> =
        Arc::new((0..CHILDREN).map(|_| AtomicUsize::new(0)).collect());
    let gate = Gate::new();
    for index in 0..CHILDREN {
        let child = watcher.adopt_pid(gate.fork((index % 256) as i32)).unwrap();
        let runs = Arc::clone(&runs);
        child
            .on_exit(move |exit| {
                assert_eq!(exit.outcome(), Outcome::Exited((index % 256) as i32));
                runs[index].fetch_add(1, Ordering::SeqCst);
            })
            .unwrap();
    }
    gate.open();
    let stats = until_stats(&watcher, "all is over", |stats| {
        stats.callbacks == CHILDREN as u64 && stats.watched == 0
    });
    assert_eq!((stats.delivered, stats.panics), (CHILDREN as u64, 0));
    assert!(stats.stalls > 0, "{stats:?}");
    drop(watcher);
    assert!(runs.iter().all(|runs| runs.load(Ordering::SeqCst) == 1));
}

/// What it inherited is a copy of handles without the threads behind them.
#[test]
fn a_forked_child_drops_a_thousand_handles_and_a_watcher_and_ends_cleanly() {
    let test = "a_forked_child_drops_a_thousand_handles_and_a_watcher_and_ends_cleanly";
    if !alone() {
        return run_alone(test, |_| ());
    }
    for workers in [0, 2] {
        let watcher = Watcher::builder().workers(workers).build().unwrap();
        let gate = Gate::new();
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
        let forked = fork(|| {
            drop(children.take());
            drop(watcher.take());
        });
        assert_eq!(reap(forked), 0);
        gate.open();
        for _ in 0..1000 {
            assert_eq!(receive(&receiver), Outcome::Exited(3));
        }
        drop(children);
        drop(watcher);
        // The senders went with the callbacks.
        drop(sender);
        assert_eq!(receiver.recv(), Err(mpsc::RecvError));
    }
}

/// The thread that execs becomes the process, which goes on under its pid.
#[test]
fn an_exec_by_another_thread_than_the_first_is_no_end() {
    let watcher = Watcher::new().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    let pid = fork(move || {
        let exec = std::thread::spawn(move || {
            use std::os::unix::process::CommandExt;
            let error = Command::new("sh")
                .args(["-c", "read line; exit 5"])
                .stdin(reader)
                .exec();
            panic!("{error}");
        });
        let _ = exec.join();
        exit(1);
    });
    let watch = watcher.watch(pid).unwrap();
    until("it is a shell", || {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() != ours())
    });
    assert_eq!(watch.wait_timeout(Duration::from_millis(20)), Ok(None));
    drop(writer);
    assert_eq!(watch.wait().unwrap().outcome(), Outcome::Exited(5));
    assert_eq!(reap(pid), 5);
}

/// The name that our threads give to what they fork.
fn ours() -> String {
    let name = std::fs::read_to_string("/proc/thread-self/comm").unwrap();
    name.trim().to_owned()
}

/// The first thread is a zombie then, and the process is none.
#[test]
fn a_process_whose_first_thread_has_ended_lives_until_its_last_has() {
    let watcher = Watcher::new().unwrap();
    let start = || {
        let (reader, writer) = std::io::pipe().unwrap();
        let parents_end = writer.as_raw_fd();
        let pid = fork(move || {
            // SAFETY: it is open, and nothing in this process uses it.
            unsafe { libc::close(parents_end) };
            std::thread::spawn(move || {
                let mut reader = reader;
                let _ = reader.read(&mut [0]);
                exit(9);
            });
            // SAFETY: ends this thread alone.
            unsafe { libc::syscall(libc::SYS_exit, 0) };
        });
        until("the first thread has ended", || is_zombie(pid));
        (pid, writer)
    };
    let check = |watch: &Watch, writer| {
        assert_eq!(watch.wait_timeout(Duration::from_millis(20)), Ok(None));
        drop::<std::io::PipeWriter>(writer);
        assert_eq!(watch.wait().unwrap().outcome(), Outcome::Exited(9));
    };
    let (pid, writer) = start();
    check(&watcher.watch(pid).unwrap(), writer);
    assert_eq!(reap(pid), 9);
    let (pid, writer) = start();
    check(&watcher.adopt_pid(pid).unwrap(), writer);
}

/// The exit is seen late, because the ring thread is in a callback; by then the process was reaped, and its pid
/// is another child's. As root only: the next pid to be given is set.
#[test]
fn a_pid_that_came_back_is_not_taken_for_the_one_that_was_watched() {
    let test = "a_pid_that_came_back_is_not_taken_for_the_one_that_was_watched";
    if !alone() {
        return run_alone(test, |_| ());
    }
    for attempt in 0.. {
        assert!(attempt < 100, "the pid was always given to others");
        let watcher = Watcher::builder().workers(0).build().unwrap();
        let gate = Gate::new();
        let first = gate.fork(21);
        let watch = watcher.watch(first).unwrap();
        until_stats(&watcher, "it is armed", |stats| stats.armed == 1);
        let ended = zombie(0);
        let (entered, is_in) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let blocking = watcher.watch(ended.pid()).unwrap();
        blocking
            .on_exit(move |_| {
                entered.send(()).unwrap();
                let _ = released.recv();
            })
            .unwrap();
        receive(&is_in);

        gate.open();
        assert_eq!(reap(first), 21);
        let last = (first.as_raw() - 1).to_string();
        if std::fs::write("/proc/sys/kernel/ns_last_pid", last).is_err() {
            eprintln!("not root: nothing to be shown");
            return;
        }
        let gate = Gate::new();
        let second = gate.fork(22);
        if second != first {
            // Somebody else was quicker.
            gate.open();
            reap(second);
            continue;
        }
        let watch_of_second = watcher.watch(second).unwrap();
        drop(release);
        let outcome = watch.wait().unwrap().outcome();
        let untellable = Outcome::Unknown(Unknown::ReapedElsewhere);
        // From Linux 6.15 on, and through a pidfd that was kept, the kernel tells it after the fact.
        assert!(
            outcome == Outcome::Exited(21) || outcome == untellable,
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
}
