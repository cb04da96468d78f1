//! Starting commands for futures.

mod common;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use common::*;
use exitring::{Closed, Command, Outcome, SpawnError, Stdio, WatchError, Watcher};
use futures_lite::future::{block_on, poll_once};

#[test]
fn commands_are_started_and_awaited() {
    let watcher = Watcher::builder().starters(3).build().unwrap();
    block_on(async {
        let starts = (0..50).map(|code| {
            let mut command = Command::new("sh");
            command.args(["-c", &format!("exit {code}")]);
            watcher.spawn_async(command)
        });
        for (code, start) in starts.enumerate() {
            let exit = start.await.unwrap().await.unwrap();
            assert_eq!(exit.outcome(), Outcome::Exited(code as i32));
        }
        let std = std::process::Command::new("true");
        assert!(
            watcher
                .spawn_async(std)
                .await
                .unwrap()
                .await
                .unwrap()
                .success()
        );
        let error = watcher
            .spawn_async(Command::new("/no/such"))
            .await
            .unwrap_err();
        assert!(matches!(error, SpawnError::NotFound { .. }));
    });
}

#[test]
fn many_starts_at_once_share_the_threads() {
    let watcher = Watcher::builder().starters(2).build().unwrap();
    let tasks = || {
        let names = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm"));
        let names = names.filter_map(|task| name(task).ok());
        names.filter(|name| name.starts_with("exitring-s")).count()
    };
    let mut starts: Vec<_> = (0..100)
        .map(|_| watcher.spawn_async(Command::new("true")))
        .collect();
    for start in &mut starts {
        block_on(poll_once(start));
    }
    // A new thread sets its name when it runs for the first time.
    until("a thread that starts commands", || tasks() >= 1);
    for start in starts {
        // Some are ready, and all have been polled.
        assert!(block_on(start).unwrap().wait().unwrap().success());
    }
    drop(watcher);
}

/// A child that says its pid, and runs until it is killed.
fn long_command() -> Command {
    let mut command = Command::new("sleep");
    command.arg("1000").process_group(0).stdin(Stdio::null());
    command
}

#[test]
fn a_dropped_future_leaves_no_process() {
    let watcher = Watcher::builder().starters(1).build().unwrap();
    // Dropped at every stage: not polled, queued behind others, being started, started.
    drop(watcher.spawn_async(long_command()));
    for delay in [0, 0, 0, 100, 300, 1000, 3000, 20_000] {
        let mut starts: Vec<_> = (0..4)
            .map(|_| watcher.spawn_async(long_command()))
            .collect();
        for start in &mut starts {
            block_on(poll_once(start));
        }
        std::thread::sleep(Duration::from_micros(delay));
        drop(starts);
    }
    until_stats(&watcher, "all are killed and reaped", |stats| {
        stats.watched == 0
    });
    // Nothing is started later.
    let child = block_on(watcher.spawn_async(Command::new("true"))).unwrap();
    assert!(child.wait().unwrap().success());
    until_stats(&watcher, "nothing else runs", |stats| stats.watched == 0);
}

#[test]
fn a_child_may_be_kept() {
    let watcher = Watcher::new().unwrap();
    let watched = |count| until_stats(&watcher, "watches", |stats| stats.watched == count);
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let mut command = Command::new("cat");
    command.stdin(reader).stdout(Stdio::null());
    let mut start = watcher.spawn_async(command).keep();
    block_on(poll_once(&mut start));
    drop(start);
    watched(1);
    let child = block_on(watcher.spawn_async(long_command()).keep()).unwrap();
    watched(2);
    child.kill().unwrap();
    child.wait().unwrap();
    watched(1);
    // It runs until its input ends.
    drop(writer);
    watched(0);
}

#[test]
fn the_end_of_the_watcher_refuses_what_is_not_started() {
    let watcher = Watcher::builder().starters(1).build().unwrap();
    let mut starts: Vec<_> = (0..20)
        .map(|_| watcher.spawn_async(Command::new("true")))
        .collect();
    for start in &mut starts {
        block_on(poll_once(start));
    }
    let unpolled = watcher.spawn_async(Command::new("true"));
    drop(watcher);
    let mut refused = 0;
    for start in starts {
        match block_on(start) {
            Ok(child) => drop(child),
            Err(SpawnError::Refused(WatchError::Closed(Closed::Dropped))) => refused += 1,
            // It was being started at the end.
            Err(SpawnError::Watch(_)) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    assert!(refused > 0, "one thread cannot have started all of them");
    let error = block_on(unpolled).unwrap_err();
    assert!(matches!(
        error,
        SpawnError::Refused(WatchError::Closed(Closed::Dropped))
    ));
}

#[test]
fn a_waker_may_panic_or_drop_the_watcher() {
    struct Panics(AtomicUsize);
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
            panic!("on purpose");
        }
    }
    let watcher = Watcher::builder().starters(1).build().unwrap();
    let panics = Arc::new(Panics(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&panics));
    let mut start = pin!(watcher.spawn_async(Command::new("true")));
    assert!(
        start
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
    );
    until("the waker ran", || panics.0.load(Ordering::SeqCst) == 1);
    assert!(block_on(start).unwrap().wait().unwrap().success());
    // The thread lives.
    let child = block_on(watcher.spawn_async(Command::new("true"))).unwrap();
    assert!(child.wait().unwrap().success());

    struct Drops(std::sync::Mutex<Option<Watcher>>, AtomicUsize);
    impl Wake for Drops {
        fn wake(self: Arc<Self>) {
            drop(self.0.lock().unwrap().take());
            self.1.fetch_add(1, Ordering::SeqCst);
        }
    }
    let drops = Arc::new(Drops(std::sync::Mutex::new(None), AtomicUsize::new(0)));
    let mut start = pin!(watcher.spawn_async(Command::new("true")));
    *drops.0.lock().unwrap() = Some(watcher);
    let waker = Waker::from(Arc::clone(&drops));
    assert!(
        start
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
    );
    until("the watcher is dropped", || {
        drops.1.load(Ordering::SeqCst) == 1
    });
    drop(block_on(start));
}

#[test]
fn the_child_has_the_mask_of_the_builder() {
    use rustix::process::Pid;
    std::thread::spawn(|| {
        let watcher = {
            // SAFETY: the set is filled before it is used; the mask is that of this thread only.
            unsafe {
                let mut set = std::mem::zeroed();
                libc::sigemptyset(&raw mut set);
                libc::sigaddset(&raw mut set, libc::SIGUSR2);
                libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
            }
            Watcher::new().unwrap()
        };
        for _ in 0..3 {
            let mut command = Command::new("cat");
            command.arg("/proc/self/status").stdout(Stdio::piped());
            let child = block_on(watcher.spawn_async(command)).unwrap();
            assert!(Pid::from_raw(child.pid().as_raw()).is_some());
            let output = child.wait_with_output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            let blocked = text.lines().find_map(|line| line.strip_prefix("SigBlk:\t"));
            assert_eq!(
                blocked,
                Some(format!("{:016x}", 1u64 << (libc::SIGUSR2 - 1)).as_str())
            );
            // Long enough for the thread to sleep with its own mask.
            std::thread::sleep(Duration::from_millis(5));
        }
    })
    .join()
    .unwrap();
}
