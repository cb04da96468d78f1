//! Timeouts, and the grace of process groups.

mod common;

use std::fs::{self, File};
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{
    Started, exitring, gone, jobs, mark, numbers, signal, signal_again, std_exitring, stdout,
    wait_until,
};

#[test]
fn a_timeout_leaves_no_descendant_alive() {
    let mark = mark("tree");
    let (name, value) = mark.split_once('=').unwrap();
    // A tree of sleepers, one of which ignores SIGTERM.
    let list = "sleep 1000 & (sleep 1000 & sleep 1000) & (trap '' TERM; sleep 1000; sleep 1000) & wait\nsleep 1000\nsleep 1000 & exec sleep 1000\n";
    let arguments = [
        "run",
        "-j",
        "8",
        "--timeout",
        "1s",
        "--grace",
        "300ms",
        "--output",
        "jsonl",
    ];
    let output = exitring(arguments)
        .env(name, value)
        .write_stdin(list)
        .output()
        .unwrap();
    gone(&mark);
    let jobs = jobs(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(jobs.len(), 3);
    assert!(
        jobs.iter()
            .all(|job| job["timed_out"] == true && job["success"] == false),
        "{jobs:?}"
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_grandchild_that_ignores_sigterm_is_killed_after_its_parent_has_ended() {
    let mark = mark("ignore");
    let (name, value) = mark.split_once('=').unwrap();
    let list = "sh -c 'trap \"\" TERM; while :; do sleep 1; done' & sleep 1000\n";
    let output = exitring(["run", "--timeout", "300ms", "--grace", "300ms"])
        .env(name, value)
        .write_stdin(list)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    gone(&mark);
}

#[test]
fn a_job_that_ends_in_time_is_not_timed_out() {
    let output = stdout(
        exitring(["run", "--timeout", "60s", "--output", "jsonl"]).write_stdin("sleep 0.05\n"),
    );
    assert_eq!(jobs(&output)[0]["timed_out"], false);
}

#[test]
fn a_timed_out_job_fails_even_if_it_exits_with_zero() {
    let list = "trap 'exit 0' TERM; while :; do sleep 0.01; done\n";
    let output =
        stdout(exitring(["run", "--timeout", "200ms", "--output", "jsonl"]).write_stdin(list));
    let job = &jobs(&output)[0];
    assert_eq!(
        (&job["timed_out"], &job["success"], &job["exit_code"]),
        (&true.into(), &false.into(), &0.into())
    );
}

/// Part of a pipeline whose shell ends at once on SIGTERM. It takes time to clean up, until there
/// is a file `go`.
const CLEANER: &str = "trap 'touch cleaning; until [ -e go ]; do sleep 0.02; done; touch cleaned; exit 0' TERM\n\
                       echo 1 >> begun\n\
                       while :; do sleep 0.05; done\n";

fn run_pipeline(dir: &std::path::Path, mark: &str, arguments: &[&str]) -> Started {
    fs::write(dir.join("cleaner"), CLEANER).unwrap();
    fs::write(dir.join("list"), "sh cleaner | cat\n").unwrap();
    let (name, value) = mark.split_once('=').unwrap();
    let mut command = std_exitring(["run", "--joblog", "log", "--grace", "1h"]);
    command.args(arguments).arg("list").env(name, value);
    command.current_dir(dir).stdout(Stdio::null());
    command.stderr(File::create(dir.join("err")).unwrap());
    let run = Started::new(&mut command);
    wait_until("the job", || numbers(&dir.join("begun")).len() == 1);
    run
}

#[test]
fn a_pipeline_gets_the_grace_at_an_interrupt_and_at_a_timeout() {
    for (arguments, code) in [(&[][..], 130), (&["--timeout", "500ms"], 1)] {
        let dir = tempfile::tempdir().unwrap();
        let mark = mark(&format!("pipeline{code}"));
        let mut run = run_pipeline(dir.path(), &mark, arguments);
        if code == 130 {
            signal(&run.0, libc::SIGTERM);
        }
        wait_until("the cleaning", || dir.path().join("cleaning").exists());
        // Longer than the shell takes to end and exitring to notice.
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert!(run.0.try_wait().unwrap().is_none(), "the run has not ended");
        let log = || fs::read_to_string(dir.path().join("log")).unwrap();
        assert_eq!(log(), "", "nor has the job");
        File::create(dir.path().join("go")).unwrap();
        assert_eq!(run.code(), Some(code));
        assert!(dir.path().join("cleaned").exists());
        assert_eq!(jobs(&log()).len(), 1);
        gone(&mark);
    }
}

#[test]
fn a_second_interrupt_kills_the_rest_of_a_group() {
    let dir = tempfile::tempdir().unwrap();
    let mark = mark("rest");
    let mut run = run_pipeline(dir.path(), &mark, &[]);
    signal(&run.0, libc::SIGTERM);
    wait_until("the cleaning", || dir.path().join("cleaning").exists());
    signal_again(&run.0, libc::SIGTERM);
    assert_eq!(run.code(), Some(130));
    gone(&mark);
    assert!(!dir.path().join("cleaned").exists());
}

#[test]
fn a_job_is_not_retried_during_the_grace_of_its_group() {
    let dir = tempfile::tempdir().unwrap();
    let line = "(trap 'sleep 0.3; rmdir lock; exit' TERM; mkdir lock || touch overlap; while :; do sleep 0.05; done) | cat\n";
    let arguments = [
        "run",
        "-j",
        "2",
        "--timeout",
        "400ms",
        "--retries",
        "1",
        "--grace",
        "1h",
    ];
    let mut command = exitring(arguments);
    let output = command.write_stdin(line).current_dir(dir.path());
    assert_eq!(output.output().unwrap().status.code(), Some(1));
    let left = |name| dir.path().join(name).exists();
    assert_eq!([left("lock"), left("overlap")], [false, false]);
}

#[test]
fn a_job_that_is_interrupted_before_its_timeout_has_not_timed_out() {
    // It ends after its timeout, when there is a file `late`.
    let job = "trap 'touch asked; until [ -e late ]; do sleep 0.02; done; exit 0' TERM; \
               echo 1 >> begun; until [ -e late ]; do sleep 0.02; done\n";
    let fails = "until [ -s begun ]; do sleep 0.02; done; exit 1\n";
    for (option, list) in [
        ("--retries=0", job.to_owned()),
        ("--fail-fast=now", format!("{job}{fails}")),
        ("--halt=now,fail=1", format!("{job}{fails}")),
    ] {
        // On a slow machine the job may not be asked to end in time. Then it gets more time.
        let done = (1..8_u32)
            .map(|exponent| 1 << exponent)
            .any(|seconds: u64| {
                let dir = tempfile::tempdir().unwrap();
                let path = |name: &str| dir.path().join(name);
                fs::write(path("list"), &list).unwrap();
                let timeout = format!("--timeout={seconds}s");
                let mut command = std_exitring(["run", "-q", "-j2", "--grace=1h", "--joblog=log"]);
                command.args([&timeout, option, "list"]).current_dir(&dir);
                let begun = Instant::now();
                let mut run = Started::new(command.stderr(Stdio::null()));
                wait_until("the job", || path("begun").exists());
                if option == "--retries=0" {
                    signal(&run.0, libc::SIGINT);
                }
                wait_until("the request to end", || path("asked").exists());
                let in_time = begun.elapsed() < Duration::from_secs(seconds);
                if in_time {
                    std::thread::sleep(Duration::from_secs(seconds));
                }
                File::create(path("late")).unwrap();
                run.code();
                let log = jobs(&fs::read_to_string(path("log")).unwrap());
                let ended = log.iter().find(|job| job["job"] == 1).unwrap();
                assert!(
                    !in_time || ended["interrupted"] == true && ended["timed_out"] == false,
                    "{option}: {ended}"
                );
                in_time
            });
        assert!(done, "{option}: the machine is too slow");
    }
}
