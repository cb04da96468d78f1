//! Readers who do not read, and terminals that are gone: neither keeps a run from ending, nor its jobs.

mod common;

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Stdio;

use common::{
    Started, gone, jobs, mark, numbers, read_all, signal, signal_again, std_exitring, wait_until,
};

/// Runs a line twice at a time, until both have begun.
fn run(
    dir: &Path,
    mark: &str,
    line: &str,
    arguments: &[&str],
    (out, err): (Stdio, Stdio),
) -> Started {
    fs::write(dir.join("list"), format!("{line}\n{line}\n")).unwrap();
    let (name, value) = mark.split_once('=').unwrap();
    let mut command = std_exitring(["run", "-j", "2", "--joblog", "log"]);
    command.args(arguments).arg("list").current_dir(dir);
    command.env(name, value).stdout(out).stderr(err);
    let run = Started::new(&mut command);
    wait_until("two jobs", || numbers(&dir.join("begun")).len() == 2);
    run
}

fn wait_until_full(pipe: impl AsFd) {
    let mut before = 0;
    wait_until("a full pipe", || {
        let now = rustix::io::ioctl_fionread(&pipe).unwrap();
        let full = now > 0 && now == before;
        before = now;
        std::thread::sleep(std::time::Duration::from_millis(200));
        full
    });
}

fn wait_until_said(dir: &Path) {
    wait_until("what it says", || {
        read_all(File::open(dir.join("err")).unwrap()).contains("interrupted")
    });
}

#[test]
fn where_nothing_can_be_said_jobs_are_ended_all_the_same() {
    for number in [libc::SIGINT, libc::SIGHUP] {
        let dir = tempfile::tempdir().unwrap();
        let mark = mark(&format!("full{number}"));
        let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
        let line = "echo 1 >> begun; sleep 1000 & wait";
        let mut run = run(dir.path(), &mark, line, &[], (Stdio::null(), full()));
        signal(&run.0, number);
        assert_eq!(run.code(), Some(130));
        gone(&mark);
        let log = fs::read_to_string(dir.path().join("log")).unwrap();
        assert_eq!(jobs(&log).len(), 2);
    }
}

#[test]
fn errors_that_nobody_reads_do_not_keep_it_from_ending() {
    let dir = tempfile::tempdir().unwrap();
    let mark = mark("errors");
    let line = "echo 1 >> begun; yes >&2";
    let streams = (Stdio::null(), Stdio::piped());
    let mut run = run(dir.path(), &mark, line, &["--grace", "300ms"], streams);
    let err = run.0.stderr.take().unwrap();
    wait_until_full(&err);
    signal(&run.0, libc::SIGINT);
    assert_eq!(run.code(), Some(130));
    gone(&mark);
    drop(err);
}

#[test]
fn a_summary_that_nobody_reads_can_be_interrupted() {
    let dir = tempfile::tempdir().unwrap();
    let mark = mark("summary");
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    // Full, but for less than the summary needs.
    rustix::io::write(&writer, &vec![b'x'; 65_536]).unwrap();
    let line = "echo 1 >> begun";
    let mut run = run(dir.path(), &mark, line, &[], (Stdio::null(), writer.into()));
    let log = dir.path().join("log");
    wait_until("both records", || {
        jobs(&fs::read_to_string(&log).unwrap()).len() == 2
    });
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(run.0.try_wait().unwrap().is_none(), "it waits");
    signal(&run.0, libc::SIGINT);
    assert!(run.code().is_some());
    drop(reader);
}

/// Each fits into its pipe, so that both begin, and not both into ours. It has something to say at its end.
const TALKER: &str = "trap 'echo last; exit 0' TERM; seq 9000; echo 1 >> begun; sleep 1000 & wait";

#[test]
fn a_slow_reader_has_all_in_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let mark = mark("slow");
    let err = File::create(dir.path().join("err")).unwrap();
    let streams = (Stdio::piped(), err.into());
    let mut run = run(dir.path(), &mark, TALKER, &["--grace", "1h"], streams);
    let out = run.0.stdout.take().unwrap();
    wait_until_full(&out);
    signal(&run.0, libc::SIGINT);
    wait_until_said(dir.path());
    let text = read_all(out);
    assert_eq!(text.lines().filter(|line| *line == "9000").count(), 2);
    assert_eq!(text.lines().filter(|line| *line == "last").count(), 2);
    assert_eq!(text.lines().count(), 18_002);
    assert_eq!(run.code(), Some(130));
    gone(&mark);
}

#[test]
fn the_second_time_no_reader_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let mark = mark("patience");
    let err = File::create(dir.path().join("err")).unwrap();
    let streams = (Stdio::piped(), err.into());
    let mut run = run(dir.path(), &mark, TALKER, &["--grace", "1h"], streams);
    let out = run.0.stdout.take().unwrap();
    wait_until_full(&out);
    signal(&run.0, libc::SIGINT);
    wait_until_said(dir.path());
    signal_again(&run.0, libc::SIGINT);
    assert_eq!(run.code(), Some(130));
    gone(&mark);
    drop(out);
}

#[test]
fn a_quit_kills_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mark = mark("quit");
    let line = "trap '' TERM; echo 1 >> begun; while :; do sleep 1000; done";
    let streams = (Stdio::null(), Stdio::null());
    let mut run = run(dir.path(), &mark, line, &["--grace", "1h"], streams);
    signal(&run.0, libc::SIGQUIT);
    assert_eq!(run.code(), Some(130));
    gone(&mark);
    let log = fs::read_to_string(dir.path().join("log")).unwrap();
    let killed = |job: &serde_json::Value| job["signal"] == libc::SIGKILL;
    assert!(jobs(&log).iter().all(killed), "{log}");
}
