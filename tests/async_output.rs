//! Output of children on a runtime of tokio.

mod common;

use std::time::Duration;

use common::*;
use exitring::{Closed, Command, OutputError, Stdio, WaitError, Watcher};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn sh_piped(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[tokio::test]
async fn both_streams_are_read_and_limited() {
    let watcher = Watcher::new().unwrap();
    // More than a pipe holds, first to one stream and then to the other.
    let script = "head -c 300000 /dev/zero >&2; head -c 300000 /dev/zero; cat; exit 3";
    for (limit, kept) in [
        (usize::MAX, 300_000),
        (300_000, 300_000),
        (70_000, 70_000),
        (0, 0),
    ] {
        let child = watcher.spawn_async(sh_piped(script)).await.unwrap();
        let output = child.output_async(limit).await.unwrap();
        assert_eq!((output.stdout.len(), output.stderr.len()), (kept, kept));
        assert_eq!(output.discarded, 2 * (300_000 - kept as u64));
        assert_eq!(output.exit.status().unwrap().code(), Some(3));
    }
}

#[tokio::test]
async fn pipes_are_read_and_written() {
    let watcher = Watcher::new().unwrap();
    let child = watcher.spawn(&mut sh_piped("cat; echo end >&2")).unwrap();
    let mut stdin = child.stdin.take_async().unwrap().unwrap();
    let mut stdout = child.stdout.take_async().unwrap().unwrap();
    let mut stderr = child.stderr.take_async().unwrap().unwrap();
    assert!(child.stdout.take_async().unwrap().is_none());
    let big = vec![b'x'; 1 << 20];
    let expected = big.len();
    tokio::spawn(async move {
        stdin.write_all(&big).await.unwrap();
    });
    let (mut text, mut error) = (Vec::new(), String::new());
    stdout.read_to_end(&mut text).await.unwrap();
    stderr.read_to_string(&mut error).await.unwrap();
    assert_eq!((text.len(), error.as_str()), (expected, "end\n"));
    assert!(child.await.unwrap().success());
}

#[tokio::test]
async fn a_dropped_future_kills_the_child_and_its_group() {
    let watcher = Watcher::new().unwrap();
    let mut command = sh_piped("sleep 1000 & echo started; wait");
    let child = watcher.spawn(command.process_group(0)).unwrap();
    let pid = child.pid();
    let output = child.output_async(100);
    tokio::time::timeout(Duration::from_millis(20), output)
        .await
        .unwrap_err();
    until_stats(&watcher, "it is reaped", |stats| stats.watched == 0);
    // SAFETY: a bare system call. The group has no process left.
    until(
        "the group is gone",
        || unsafe { libc::kill(-pid.as_raw(), 0) } == -1,
    );
}

#[tokio::test]
async fn the_end_of_the_watcher_ends_the_future() {
    let watcher = Watcher::new().unwrap();
    let child = watcher
        .spawn(&mut sh_piped("exec >/dev/null 2>&1; sleep 1000"))
        .unwrap();
    let pid = child.pid();
    let task = tokio::spawn(child.output_async(100));
    tokio::task::yield_now().await;
    drop(watcher);
    let error = task.await.unwrap().unwrap_err();
    assert!(
        matches!(error, OutputError::Wait(WaitError::Closed(Closed::Dropped))),
        "{error:?}"
    );
    // SAFETY: a bare system call. The child lives on, and is reaped at its end.
    assert_eq!(unsafe { libc::kill(pid.as_raw(), libc::SIGKILL) }, 0);
    until_reaped(pid);
}

#[tokio::test]
async fn a_child_that_writes_all_the_time_keeps_no_other_future_waiting() {
    let watcher = Watcher::new().unwrap();
    let mut command = sh_piped("yes; yes >&2");
    let child = watcher.spawn(command.process_group(0)).unwrap();
    // On this runtime the timeout needs the same thread.
    let output = tokio::time::timeout(Duration::from_millis(50), child.output_async(10));
    output.await.unwrap_err();
    until_stats(&watcher, "it is killed", |stats| stats.watched == 0);
}

#[tokio::test]
async fn a_future_that_was_never_polled_kills_the_child_too() {
    let watcher = Watcher::new().unwrap();
    let child = watcher.spawn(&mut sh_piped("sleep 1000")).unwrap();
    drop(child.output_async(10));
    until_stats(&watcher, "it is killed", |stats| stats.watched == 0);
}
