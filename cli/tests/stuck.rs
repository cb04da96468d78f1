//! Readers that do not read, and terminals that have hung up: they delay neither the end of a run
//! nor that of its jobs.

mod common;

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Stdio;

use common::{
    Started, gone, jobs, mark, numbers, read_all, signal, signal_again, std_exitring, wait_until,
};

/// Runs two instances of a line, and waits until both have started.
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

fn wait_for_interrupt_message(dir: &Path) {
    wait_until("the message", || {
        read_all(File::open(dir.join("err")).unwrap()).contains("interrupted")
    });
}

#[test]
fn jobs_end_although_standard_error_blocks() {
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
fn unread_job_errors_do_not_delay_an_interrupt() {
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
fn an_unread_summary_can_be_interrupted() {
    let dir = tempfile::tempdir().unwrap();
    let mark = mark("summary");
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    // The pipe has less space left than the summary needs.
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

/// The output of one job fits into its pipe, so both jobs start. The output of both does not fit
/// into the pipe of exitring. Each job writes a line at its end.
const WRITER: &str = "trap 'echo last; exit 0' TERM; seq 9000; echo 1 >> begun; sleep 1000 & wait";

#[test]
fn a_slow_reader_gets_all_output() {
    let dir = tempfile::tempdir().unwrap();
    let mark = mark("slow");
    let err = File::create(dir.path().join("err")).unwrap();
    let streams = (Stdio::piped(), err.into());
    let mut run = run(dir.path(), &mark, WRITER, &["--grace", "1h"], streams);
    let out = run.0.stdout.take().unwrap();
    wait_until_full(&out);
    signal(&run.0, libc::SIGINT);
    wait_for_interrupt_message(dir.path());
    let text = read_all(out);
    assert_eq!(text.lines().filter(|line| *line == "9000").count(), 2);
    assert_eq!(text.lines().filter(|line| *line == "last").count(), 2);
    assert_eq!(text.lines().count(), 18_002);
    assert_eq!(run.code(), Some(130));
    gone(&mark);
}

#[test]
fn a_second_request_does_not_wait_for_readers() {
    let dir = tempfile::tempdir().unwrap();
    let mark = mark("patience");
    let err = File::create(dir.path().join("err")).unwrap();
    let streams = (Stdio::piped(), err.into());
    let mut run = run(dir.path(), &mark, WRITER, &["--grace", "1h"], streams);
    let out = run.0.stdout.take().unwrap();
    wait_until_full(&out);
    signal(&run.0, libc::SIGINT);
    wait_for_interrupt_message(dir.path());
    signal_again(&run.0, libc::SIGINT);
    assert_eq!(run.code(), Some(130));
    gone(&mark);
    drop(out);
}

#[test]
fn sigquit_kills_jobs_at_once() {
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

#[test]
fn a_job_that_reads_its_own_pipe_does_not_block_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let wait_for =
        |file: &str| format!("until [ -e {file} ] || ! [ -e list ]; do sleep 0.02; done");
    // Together more than exitring buffers before it writes.
    let writer = format!(
        "echo 1 >> begun; {}; yes | head -c 32768; echo 1 >> written; {}",
        wait_for("write"),
        wait_for("end")
    );
    // It takes back what it has written. It does not end before the others have been recorded.
    let reader = format!(
        "echo 1 >> begun; {}; echo x; echo 1 >> written; {}; head -c 2 < /dev/stdout > taken; \
         until ! [ -e list ] || [ $(wc -l < log) -ge 16 ]; do sleep 0.02; done",
        wait_for("write-last"),
        wait_for("take")
    );
    fs::write(path("list"), format!("{writer}\n").repeat(16) + &reader).unwrap();
    let mut command = std_exitring(["run", "-q", "-j17", "--joblog", "log", "list"]);
    command.current_dir(dir.path()).stdout(Stdio::piped());
    let mut run = Started::new(&mut command);
    let out = run.0.stdout.take().unwrap();
    let lines = |name: &str| numbers(&path(name)).len();
    let make = |name: &str| File::create(path(name)).unwrap();
    wait_until("all jobs", || lines("begun") == 17);
    // While exitring is stopped, all pipes become readable. So the next call of epoll_wait reports
    // them together, that of the reader as the last one.
    signal(&run.0, libc::SIGSTOP);
    make("write");
    wait_until("the output of the writers", || lines("written") == 16);
    make("write-last");
    wait_until("the output of the reader", || lines("written") == 17);
    signal(&run.0, libc::SIGCONT);
    // It waits for its reader now, in the middle of these events.
    wait_until_full(&out);
    make("take");
    wait_until("the read of the job", || {
        fs::read(path("taken")).is_ok_and(|taken| taken == b"x\n")
    });
    make("end");
    let text = std::thread::spawn(move || read_all(out));
    assert_eq!(run.code(), Some(0));
    assert_eq!(text.join().unwrap(), "y\n".repeat(16 * 16384));
}
