//! Jobs that succeed after a failed attempt, and the time between attempts.

use std::fs;
use std::path::Path;

use quick_junit::{FlakyOrRerun, TestCaseStatus};

use crate::common::{code, exitring, jobs, numbers, stderr, stdout};
use crate::junit::{cases, read};

/// A job that succeeds at its second attempt, one that succeeds at once, and one that fails.
const LIST: &str = "[ $EXITRING_ATTEMPT = 2 ] # flaky\ntrue\nfalse\n";

#[test]
fn a_job_that_succeeds_after_a_failure_is_flaky() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = exitring([
        "run",
        "--retries",
        "1",
        "--output",
        "jsonl",
        "--joblog",
        "log",
    ]);
    let run = run.current_dir(dir.path()).write_stdin(LIST);
    let output = run.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let log = fs::read_to_string(dir.path().join("log")).unwrap();
    for text in [&String::from_utf8(output.stdout).unwrap(), &log] {
        let jobs = jobs(text);
        let states = jobs
            .iter()
            .map(|job| (job["flaky"].as_bool(), job["success"].as_bool()));
        let expected = [(true, true), (false, true), (false, false)];
        assert!(
            states.eq(expected.map(|(flaky, success)| (Some(flaky), Some(success)))),
            "{text}"
        );
    }
    let summary = String::from_utf8(output.stderr).unwrap();
    assert!(
        summary.contains("2 succeeded, 1 failed, 1 flaky, 2 retries"),
        "{summary}"
    );
}

#[test]
fn a_log_with_flaky_jobs_can_be_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let run = |options: &[&str]| {
        let mut run = exitring(["run", "--retries", "1", "--joblog", "log"]);
        let run = run.args(options).current_dir(dir.path());
        let output = run.write_stdin(LIST).output().unwrap();
        let log = fs::read_to_string(dir.path().join("log")).unwrap();
        (output.status.code(), log.lines().count())
    };
    assert_eq!(run(&[]), (Some(1), 3));
    assert_eq!(run(&["--resume"]), (Some(1), 3));
    // Only the job that failed runs again.
    assert_eq!(run(&["--resume-failed"]), (Some(1), 4));
}

#[test]
fn with_fail_flaky_such_a_job_has_failed() {
    let dir = tempfile::tempdir().unwrap();
    let list = "[ $EXITRING_ATTEMPT = 2 ]\ntrue\n";
    let run = |options: &[&str]| {
        let mut run = exitring(["run", "--retries", "1", "--output", "jsonl"]);
        let run = run.args(options).current_dir(dir.path());
        run.write_stdin(list).output().unwrap()
    };
    assert_eq!(run(&[]).status.code(), Some(0));
    let output = run(&["--fail-flaky", "--junit", "r.xml", "--joblog", "log"]);
    assert_eq!(output.status.code(), Some(1));
    let jobs = jobs(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(jobs[0]["flaky"], true);
    assert_eq!(jobs[0]["success"], false);
    assert_eq!(jobs[0]["exit_code"], 0);
    assert_eq!(jobs[0]["reason"], "only attempt 2 succeeded");
    assert_eq!(jobs[1]["success"], true);
    let summary = String::from_utf8(output.stderr).unwrap();
    assert!(
        summary.contains("1 succeeded, 1 failed, 1 flaky"),
        "{summary}"
    );
    assert!(
        summary.contains("only attempt 2 succeeded; exit code 0"),
        "{summary}"
    );
    let report = read(&dir.path().join("r.xml"));
    assert_eq!((report.tests, report.failures), (2, 1));
    let TestCaseStatus::NonSuccess { ty, reruns, .. } = &cases(&report)[0].status else {
        panic!("{report:?}");
    };
    assert_eq!(ty.as_deref(), Some("flaky"));
    assert_eq!((reruns.kind, reruns.runs.len()), (FlakyOrRerun::Flaky, 1));
    // The failure counts when the run is resumed.
    let resumed = run(&["--joblog", "log", "--resume"]);
    assert_eq!(resumed.status.code(), Some(1));
    let resumed = run(&["--joblog", "log", "--resume-failed"]);
    assert_eq!(resumed.status.code(), Some(0));
}

/// A job that notes the time of each attempt, which is later than that of the attempt before.
fn times(dir: &Path, options: &[&str]) -> Vec<u64> {
    let mut run = exitring(["run", "-q", "-j1", "--retries", "3"]);
    let run = run.args(options).current_dir(dir);
    assert_eq!(
        code(run.write_stdin("date +%s%3N >> times; false\n")),
        Some(1)
    );
    numbers(&dir.join("times"))
}

#[test]
fn attempts_are_as_far_apart_as_asked_for() {
    for (delay, least) in [("300ms", [300, 300, 300]), ("0.1..0.3", [100, 200, 300])] {
        let dir = tempfile::tempdir().unwrap();
        let times = times(dir.path(), &["--retry-delay", delay]);
        assert_eq!(times.len(), 4);
        for (pair, least) in times.windows(2).zip(least) {
            assert!(pair[1] - pair[0] >= least, "{delay}: {times:?}");
        }
    }
}

#[test]
fn other_jobs_run_while_a_job_waits_for_its_retry() {
    let dir = tempfile::tempdir().unwrap();
    // The retry succeeds only if the other job has run on the only slot.
    let list = "[ -e other ]\ntouch other\n";
    let mut run = exitring(["run", "-q", "-j1", "--retries", "1", "--retry-delay", "2s"]);
    assert_eq!(code(run.current_dir(dir.path()).write_stdin(list)), Some(0));
}

#[test]
fn many_jobs_can_wait_for_a_retry() {
    // More than may wait at a time.
    let mut run = exitring(["run", "-j8", "--retries", "1", "--retry-delay", "100ms"]);
    let list = "[ $EXITRING_ATTEMPT = 2 ]\n".repeat(2500);
    let text = stderr(run.write_stdin(list));
    assert!(
        text.contains("2500 succeeded, 0 failed, 2500 flaky"),
        "{text}"
    );
}

#[test]
fn an_interrupt_ends_the_wait_for_a_retry() {
    let mut run = exitring([
        "run",
        "-j2",
        "--retries",
        "9",
        "--retry-delay",
        "1h",
        "--output",
        "jsonl",
    ]);
    let list = "false\nsleep 1; kill -TERM $PPID\n";
    let output = run.write_stdin(list).output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    // A job that waits is not done, so it has no record.
    let jobs = jobs(&String::from_utf8(output.stdout).unwrap());
    assert!(jobs.iter().all(|job| job["job"] != 1), "{jobs:?}");
}

#[test]
fn a_job_that_fails_early_waits_as_well() {
    // A job that dies of SIGTERM is decided later, in case the signal was for all.
    let dir = tempfile::tempdir().unwrap();
    let list = "[ $EXITRING_ATTEMPT = 2 ] || kill $$; [ -e other ]\ntouch other\n";
    let mut run = exitring(["run", "-q", "-j1", "--retries", "1", "--retry-delay", "1s"]);
    assert_eq!(code(run.current_dir(dir.path()).write_stdin(list)), Some(0));
}

#[test]
fn an_invalid_delay_is_refused() {
    for (options, why) in [
        (&["--retries=1", "--retry-delay=nan"][..], "retry-delay"),
        (
            &["--retries=1", "--retry-delay=5s..1s"],
            "above the longest",
        ),
        (&["--retry-delay=1s"], "--retries"),
    ] {
        let output = exitring(["run"]).args(options).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{options:?}: {text}");
        assert!(text.contains(why), "{options:?}: {text}");
    }
    let output =
        stdout(exitring(["run", "--retries=1", "--retry-delay=0"]).write_stdin("echo a\n"));
    assert_eq!(output, "a\n");
}
