//! Children of the watcher's own.

mod common;

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use common::*;
use exitring::{
    Child, Closed, Exit, Outcome, OutputError, Pid, SpawnError, Unknown, WaitError, Watch,
    WatchError, Watcher,
};

fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

/// Whether there is such a process, a zombie included.
fn exists(pid: Pid) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

#[track_caller]
fn assert_reaped(pid: Pid) {
    until("the child is reaped", || !exists(pid));
}

#[test]
fn a_spawned_child_is_reaped_with_status_and_usage() {
    each_worker_count(|watcher| {
        let child = watcher
            .spawn(&mut sh(
                "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exit 7",
            ))
            .unwrap();
        let exit = child.wait().unwrap();
        assert_eq!(exit.outcome(), Outcome::Exited(7));
        assert_eq!(exit.pid(), child.pid());
        let usage = exit.usage().unwrap();
        assert!(usage.user() + usage.system() > Duration::ZERO);
        assert!(usage.max_rss_bytes() > 100 * 1024);
        assert!(!exit.by_deadline());
        assert!(!exists(child.pid()), "it is reaped when its exit is told");
        let (sender, receiver) = mpsc::channel();
        child
            .on_exit(move |exit| sender.send(exit.clone()).unwrap())
            .unwrap();
        assert_eq!(receive(&receiver), exit);
        until_stats(&watcher, "nothing is watched", |stats| stats.watched == 0);
    });
}

#[test]
fn piped_streams_are_in_the_child() {
    let watcher = Watcher::new().unwrap();
    let mut command = sh("cat; echo problem >&2");
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = watcher.spawn(&mut command).unwrap();
    child.stdin.take().unwrap().write_all(b"hello").unwrap();
    let (mut out, mut err) = (String::new(), String::new());
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut out)
        .unwrap();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut err)
        .unwrap();
    assert_eq!((out.as_str(), err.as_str()), ("hello", "problem\n"));
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_dropped_child_runs_on_and_is_reaped() {
    each_worker_count(|watcher| {
        let child = watcher
            .spawn(sh("read line; exit 3").stdin(Stdio::piped()))
            .unwrap();
        let pid = child.pid();
        let stdin = child.stdin.take().unwrap();
        drop(child);
        std::thread::sleep(Duration::from_millis(10));
        assert!(exists(pid) && !is_zombie(pid));
        drop(stdin);
        assert_reaped(pid);
        until_stats(&watcher, "it is told", |stats| stats.delivered == 1);
    });
}

#[test]
fn a_child_to_be_killed_on_drop_is_killed_and_reaped() {
    let watcher = Watcher::new().unwrap();
    let mut child = watcher.spawn(Command::new("sleep").arg("1000")).unwrap();
    child.kill_on_drop(true);
    let pid = child.pid();
    drop(child);
    assert_reaped(pid);
}

#[test]
fn children_that_outlive_the_watcher_are_reaped() {
    let watcher = Watcher::new().unwrap();
    let kept = watcher
        .spawn(sh("read line; exit 4").stdin(Stdio::piped()))
        .unwrap();
    let dropped = watcher
        .spawn(sh("read line").stdin(Stdio::piped()))
        .unwrap();
    let (kept_stdin, dropped_stdin) = (kept.stdin.take(), dropped.stdin.take());
    let dropped_pid = dropped.pid();
    drop(dropped);
    let mut killed = watcher.spawn(Command::new("sleep").arg("1000")).unwrap();
    killed.kill_on_drop(true);
    let killed_pid = killed.pid();
    drop(watcher);

    assert_eq!(kept.wait(), Err(WaitError::Closed(Closed::Dropped)));
    assert!(exists(kept.pid()) && exists(dropped_pid));
    drop((kept_stdin, dropped_stdin, killed));
    assert_reaped(kept.pid());
    assert_reaped(dropped_pid);
    assert_reaped(killed_pid);
    until("the exit can be read", || kept.exit().is_some());
    assert_eq!(kept.exit().unwrap().outcome(), Outcome::Exited(4));
}

#[test]
fn a_std_child_is_adopted_running_ended_or_waited_for() {
    let watcher = Watcher::new().unwrap();
    let mut running = sh("read line; exit 5")
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let stdin = running.stdin.take();
    let child = watcher.adopt(running).unwrap();
    assert_eq!(child.exit(), None);
    drop(stdin);
    assert_eq!(child.wait().unwrap().outcome(), Outcome::Exited(5));
    assert!(!exists(child.pid()));

    let ended = sh("exit 6").stdout(Stdio::piped()).spawn().unwrap();
    let pid = Pid::try_from(ended.id()).unwrap();
    until("it is a zombie", || is_zombie(pid));
    let child = watcher.adopt(ended).unwrap();
    assert!(child.stdout.is_some());
    assert_eq!(child.wait().unwrap().outcome(), Outcome::Exited(6));
    assert!(child.wait().unwrap().usage().is_some());
    assert!(!exists(pid));

    let mut waited = sh("exit 7").spawn().unwrap();
    waited.wait().unwrap();
    let child = watcher.adopt(waited).unwrap();
    assert_eq!(child.wait().unwrap().outcome(), Outcome::Exited(7));
    assert_eq!(child.wait().unwrap().usage(), None);
    let (sender, receiver) = mpsc::channel();
    child
        .on_exit(move |exit| sender.send(exit.outcome()).unwrap())
        .unwrap();
    assert_eq!(receive(&receiver), Outcome::Exited(7));
    until_stats(&watcher, "nothing is watched", |stats| stats.watched == 0);
}

#[test]
fn a_child_is_adopted_by_its_pid_and_no_other_process_is() {
    let watcher = Watcher::new().unwrap();
    #[expect(clippy::zombie_processes, reason = "the watcher reaps it")]
    let child = sh("exit 8").spawn().unwrap();
    let owned = watcher.adopt_pid(child.id()).unwrap();
    assert_eq!(owned.wait().unwrap().outcome(), Outcome::Exited(8));
    for pid in [child.id(), std::os::unix::process::parent_id()] {
        match watcher.adopt_pid(pid) {
            Err(WatchError::NoSuchProcess { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_cannot_be_started_is_said_why() {
    let watcher = Watcher::new().unwrap();
    match watcher.spawn(&mut Command::new("/no/such/program")) {
        Err(error @ SpawnError::NotFound { .. }) => {
            assert!(error.to_string().contains("/no/such/program"));
            assert!(!error.is_throttling());
        }
        other => panic!("{other:?}"),
    }
    for program in ["/etc/passwd", "/tmp"] {
        match watcher.spawn(&mut Command::new(program)) {
            Err(SpawnError::NotExecutable { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(watcher.stats().watched, 0);
}

#[test]
fn a_child_spawned_in_a_callback_has_the_builders_signal_mask() {
    each_worker_count(|watcher| {
        let watcher = Arc::new(watcher);
        let first = watcher.spawn(&mut sh("exit 0")).unwrap();
        let (sender, receiver) = mpsc::channel();
        first
            .on_exit({
                let watcher = watcher.clone();
                move |_| {
                    let child = watcher.spawn(Command::new("sleep").arg("1000")).unwrap();
                    sender.send(child).unwrap();
                }
            })
            .unwrap();
        let child = receive(&receiver);
        child.signal(libc::SIGTERM).unwrap();
        let outcome = Outcome::Signaled {
            signal: libc::SIGTERM,
            core_dumped: false,
        };
        assert_eq!(child.wait().unwrap().outcome(), outcome);
    });
}

#[test]
fn a_process_that_is_no_childs_status_is_told_once_its_parent_reaped_it() {
    let watcher = Watcher::new().unwrap();
    let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let fd = std::os::fd::AsRawFd::as_raw_fd(&theirs);
    // A child that has a child, tells its pid, reaps it when told, and ends when told.
    // SAFETY: the child makes system calls only.
    let parent = unsafe {
        let parent = libc::fork();
        if parent == 0 {
            let grandchild = libc::fork();
            if grandchild == 0 {
                libc::_exit(9);
            }
            let mut byte = 0_u8;
            libc::write(fd, (&raw const grandchild).cast(), 4);
            libc::read(fd, (&raw mut byte).cast(), 1);
            libc::waitpid(grandchild, std::ptr::null_mut(), 0);
            libc::read(fd, (&raw mut byte).cast(), 1);
            libc::_exit(0);
        }
        watcher.adopt_pid(parent).unwrap()
    };
    let mut pid = [0; 4];
    ours.read_exact(&mut pid).unwrap();
    let pid = i32::from_ne_bytes(pid);
    let exited = watcher.watch(pid).unwrap();
    let reaped = watcher.watch_reaped(pid);
    let outcome = exited.wait().unwrap().outcome();
    assert_eq!(outcome, Outcome::Unknown(Unknown::NotAChild));
    assert!(is_zombie(exited.pid()));
    match reaped {
        // Before Linux 6.9.
        Err(WatchError::Unsupported) => ours.write_all(b"r").unwrap(),
        Err(other) => panic!("{other:?}"),
        Ok(reaped) => {
            assert_eq!(reaped.wait_timeout(Duration::from_millis(20)), Ok(None));
            ours.write_all(b"r").unwrap();
            let outcome = reaped.wait().unwrap().outcome();
            // From Linux 6.15 on it is told.
            assert!(
                outcome == Outcome::Exited(9) || outcome == Outcome::Unknown(Unknown::NotAChild),
                "{outcome:?}"
            );
        }
    }
    ours.write_all(b"e").unwrap();
    assert!(parent.wait().unwrap().success());
}

fn cat(watcher: &Watcher) -> Child {
    let mut command = Command::new("cat");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    watcher.spawn(&mut command).unwrap()
}

#[test]
fn every_wait_of_a_child_closes_its_piped_standard_input() {
    let ways: [fn(Child) -> Exit; 7] = [
        |child| child.wait().unwrap(),
        |child| {
            child
                .wait_timeout(FOREVER)
                .unwrap()
                .expect("it ends in time")
        },
        |child| futures_lite::future::block_on(child.exited()).unwrap(),
        |child| futures_lite::future::block_on(async { (&child).await }).unwrap(),
        |child| futures_lite::future::block_on(async { child.await }).unwrap(),
        |child| child.wait_with_output().unwrap().exit,
        |child| Arc::new(child).wait().unwrap(),
    ];
    each_worker_count(|watcher| {
        for wait in ways {
            let child = cat(&watcher);
            assert!(child.stdin.is_some());
            // Only so long that a hang is a failure.
            child.deadline(FOREVER, Duration::ZERO).unwrap();
            assert!(wait(child).success());
        }
    });
}

#[test]
fn what_is_no_wait_of_the_child_leaves_its_standard_input_open() {
    let watcher = Watcher::new().unwrap();
    let mut child = cat(&watcher);
    let exits = watcher.exits(1).unwrap();
    exits.add(&child, 0).unwrap();
    assert_eq!(child.try_wait(), Ok(None));
    let soon = Duration::from_millis(20);
    assert_eq!(Watch::wait_timeout(&child, soon), Ok(None));
    drop(child.exited());
    let stdin = child.stdin.as_mut().expect("it is open");
    stdin.write_all(b"hello").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.stdout, b"hello");
    assert_eq!(exits.recv().unwrap().unwrap().exit, output.exit);
}

#[test]
fn a_standard_input_that_was_taken_is_the_takers_to_close() {
    let watcher = Watcher::new().unwrap();
    let child = cat(&watcher);
    let mut stdin = child.stdin.take().unwrap();
    assert!(child.stdin.take().is_none());
    let soon = Duration::from_millis(20);
    assert_eq!(child.wait_timeout(soon), Ok(None));
    stdin.write_all(b"hello").unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success());
    let mut text = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "hello");
}

#[test]
fn pipes_are_taken_out_of_a_shared_child_and_moved_out_of_an_owned_one() {
    let watcher = Watcher::new().unwrap();
    let child = Arc::new(cat(&watcher));
    std::thread::scope(|scope| {
        scope.spawn(|| drop(child.stdin.take()));
        let text = scope.spawn(|| {
            let mut text = String::new();
            let mut stdout = child.stdout.take().unwrap();
            stdout.read_to_string(&mut text).map(|_| text)
        });
        assert_eq!(text.join().unwrap().unwrap(), "");
    });
    assert!(child.wait().unwrap().success());

    let child = cat(&watcher);
    let Child { stdin, stdout, .. } = child;
    drop(stdin.into_inner().unwrap());
    let mut text = String::new();
    let mut stdout = stdout.into_inner().unwrap();
    stdout.read_to_string(&mut text).unwrap();
    assert_eq!(text, "");
}

#[test]
fn all_that_a_child_writes_comes_with_its_exit_however_much_of_both_it_is() {
    let watcher = Watcher::new().unwrap();
    let mut command = sh("head -c 1000000 /dev/zero >&2; head -c 2000000 /dev/zero; exit 3");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = watcher.spawn(&mut command).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.exit.outcome(), Outcome::Exited(3));
    assert_eq!(
        (output.stdout.len(), output.stderr.len()),
        (2_000_000, 1_000_000)
    );
    // One, or none.
    let child = watcher.spawn(sh("echo a").stdout(Stdio::piped())).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((&*output.stdout, &*output.stderr), (&b"a\n"[..], &b""[..]));
    let output = watcher.spawn(&mut sh("exit 4")).unwrap().wait_with_output();
    assert_eq!(output.unwrap().exit.outcome(), Outcome::Exited(4));
}

#[test]
fn waiting_with_output_on_the_ring_thread_is_refused_before_anything_is_read() {
    let watcher = Arc::new(Watcher::builder().workers(0).build().unwrap());
    let (sender, receiver) = mpsc::channel();
    let inside = watcher.clone();
    watcher
        .spawn(&mut sh("exit 0"))
        .unwrap()
        .on_exit(move |_| {
            let mut child = cat(&inside);
            child.kill_on_drop(true);
            sender.send(child.wait_with_output()).unwrap();
        })
        .unwrap();
    assert!(matches!(
        receive(&receiver),
        Err(OutputError::Wait(WaitError::WouldDeadlock))
    ));
}

#[test]
fn a_child_may_be_killed_after_its_end_and_asked_for_it_without_waiting() {
    let watcher = Watcher::new().unwrap();
    let child = watcher.spawn(Command::new("sleep").arg("1000")).unwrap();
    assert_eq!(child.id(), child.pid().as_raw() as u32);
    assert_eq!(child.try_wait(), Ok(None));
    child.kill().unwrap();
    let exit = child.wait().unwrap();
    child.kill().unwrap();
    assert_eq!(child.try_wait(), Ok(Some(exit.clone())));
    drop(watcher);
    child.kill().unwrap();
    assert_eq!(child.try_wait(), Ok(Some(exit)));

    let watcher = Watcher::new().unwrap();
    let child = watcher.spawn(Command::new("sleep").arg("1000")).unwrap();
    drop(watcher);
    assert_eq!(child.try_wait(), Err(Closed::Dropped));
    child.kill().unwrap();
}
