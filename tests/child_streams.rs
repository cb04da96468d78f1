//! Piped standard streams of owned children.

mod common;

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use common::*;
use exitring::{Child, Exit, Outcome, OutputError, WaitError, Watch, Watcher};

/// A `cat` whose standard input and output are pipes.
fn cat(watcher: &Watcher) -> Child {
    let mut command = Command::new("cat");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    watcher.spawn(&mut command).unwrap()
}

/// Reads the rest of the child's standard output.
fn read_stdout(child: &Child) -> String {
    std::io::read_to_string(child.stdout.take().unwrap()).unwrap()
}

#[test]
fn piped_streams_are_available_from_the_child() {
    let watcher = Watcher::new().unwrap();
    let mut command = sh("cat; echo problem >&2");
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = watcher.spawn(&mut command).unwrap();
    child.stdin.take().unwrap().write_all(b"hello").unwrap();
    assert_eq!(read_stdout(&child), "hello");
    let stderr = child.stderr.take().unwrap();
    assert_eq!(std::io::read_to_string(stderr).unwrap(), "problem\n");
    assert!(child.wait().unwrap().success());
}

#[test]
fn every_wait_for_a_child_closes_its_piped_stdin() {
    let ways: [fn(Child) -> Exit; 7] = [
        |child| child.wait().unwrap(),
        |child| {
            child
                .wait_timeout(TEST_TIMEOUT)
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
            // The deadline turns a hang into a failure.
            child.deadline(TEST_TIMEOUT, Duration::ZERO).unwrap();
            assert!(wait(child).success());
        }
    });
}

#[test]
fn calls_that_do_not_wait_for_the_child_leave_its_stdin_open() {
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
fn a_stdin_that_was_taken_stays_open_during_a_wait() {
    let watcher = Watcher::new().unwrap();
    let child = cat(&watcher);
    let mut stdin = child.stdin.take().unwrap();
    assert!(child.stdin.take().is_none());
    assert_eq!(child.wait_timeout(Duration::from_millis(20)), Ok(None));
    stdin.write_all(b"hello").unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success());
    assert_eq!(read_stdout(&child), "hello");
}

#[test]
fn pipes_can_be_taken_from_a_shared_child_and_moved_out_of_an_owned_one() {
    let watcher = Watcher::new().unwrap();
    let child = Arc::new(cat(&watcher));
    std::thread::scope(|scope| {
        scope.spawn(|| drop(child.stdin.take()));
        let text = scope.spawn(|| read_stdout(&child));
        assert_eq!(text.join().unwrap(), "");
    });
    assert!(child.wait().unwrap().success());

    let child = cat(&watcher);
    let Child { stdin, stdout, .. } = child;
    drop(stdin.into_inner().unwrap());
    let text = std::io::read_to_string(stdout.into_inner().unwrap()).unwrap();
    assert_eq!(text, "");
}

#[test]
fn wait_with_output_returns_all_output_of_both_streams() {
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
    // With one pipe, or none.
    let child = watcher.spawn(sh("echo a").stdout(Stdio::piped())).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((&*output.stdout, &*output.stderr), (&b"a\n"[..], &b""[..]));
    let output = watcher.spawn(&mut sh("exit 4")).unwrap().wait_with_output();
    assert_eq!(output.unwrap().exit.outcome(), Outcome::Exited(4));
}

#[test]
fn wait_with_output_on_the_ring_thread_is_refused_before_it_reads() {
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
fn output_beyond_a_limit_is_discarded() {
    let watcher = Watcher::new().unwrap();
    let script = "head -c 200000 /dev/zero >&2; echo text; head -c 200000 /dev/zero";
    for (limit, kept) in [(usize::MAX, 200_005), (5, 5), (0, 0), (65_536, 65_536)] {
        let mut command = sh(script);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = watcher.spawn(&mut command).unwrap().output(limit).unwrap();
        assert!(output.exit.success());
        assert_eq!(output.stdout.len(), kept);
        let (out, err) = (output.stdout.len() as u64, output.stderr.len() as u64);
        assert_eq!(output.discarded + out + err, 400_005);
        assert!(output.stdout.starts_with(&b"text\n"[..limit.min(5)]));
    }
}

#[test]
fn the_end_of_the_watcher_ends_the_read_of_a_child_that_writes_all_the_time() {
    let watcher = Watcher::new().unwrap();
    let child = watcher
        .spawn(Command::new("yes").stdout(Stdio::piped()))
        .unwrap();
    let pid = child.pid();
    let reader = std::thread::spawn(move || child.output(10));
    std::thread::sleep(Duration::from_millis(10));
    drop(watcher);
    let error = reader.join().unwrap().unwrap_err();
    assert!(
        matches!(error, OutputError::Wait(WaitError::Closed(_))),
        "{error:?}"
    );
    // It ends by SIGPIPE, and is reaped.
    until_reaped(pid);
}
