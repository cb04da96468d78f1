//! Jobs that run for long.

use std::fs;

use crate::common::{Started, exitring, jobs, read_all, signal, std_exitring};
use std::io::{BufRead, BufReader};
use std::process::Stdio;

#[test]
fn a_slow_job_is_reported_at_doubled_times_and_counted() {
    let mut run = exitring(["run", "-j2", "--slow-after", "1s", "--output", "jsonl"]);
    let output = run
        .write_stdin("sleep 4.5 # long\ntrue # short\n")
        .output()
        .unwrap();
    let jobs = jobs(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(jobs[0]["slow"], true);
    assert_eq!(jobs[1]["slow"], false);
    let text = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<_> = text
        .lines()
        .filter(|line| line.contains("is slow"))
        .collect();
    // At 1 s, 2 s and 4 s. Fewer if this process did not run at those times, but not more.
    assert!((1..=3).contains(&lines.len()), "{text}");
    for line in lines {
        assert!(
            line.starts_with("job 1 is slow, it has been running for "),
            "{text}"
        );
        assert!(line.ends_with(": sleep 4.5 # long"), "{text}");
    }
    assert!(text.contains("2 succeeded, 0 failed, 1 slow;"), "{text}");
}

#[test]
fn a_slow_job_is_reported_while_it_runs_also_with_quiet() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("list"), "exec sleep 1000\n").unwrap();
    let mut command = std_exitring(["run", "-q", "--slow-after", "200ms", "list"]);
    command.current_dir(dir.path()).stderr(Stdio::piped());
    let mut run = Started::new(&mut command);
    let mut stderr = BufReader::new(run.0.stderr.take().unwrap());
    let mut lines = [String::new(), String::new()];
    for line in &mut lines {
        stderr.read_line(line).unwrap();
        assert!(line.contains("job 1 is slow"), "{line}");
    }
    signal(&run.0, libc::SIGTERM);
    assert_eq!(run.code(), Some(130));
    drop(read_all(stderr));
}

#[test]
fn a_job_whose_first_attempt_was_slow_is_slow() {
    let mut run = exitring([
        "run",
        "--slow-after",
        "1s",
        "--retries",
        "1",
        "--output",
        "jsonl",
    ]);
    let list = "[ $EXITRING_ATTEMPT = 2 ] || { sleep 1.2; false; }\n";
    let output = run.write_stdin(list).output().unwrap();
    let jobs = jobs(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(
        (&jobs[0]["slow"], &jobs[0]["flaky"]),
        (&true.into(), &true.into())
    );
}

#[test]
fn an_unusual_time_is_refused_or_never_reached() {
    for (time, code) in [("nan", 2), ("0", 2), ("-1", 2), ("1e18", 0)] {
        let mut run = exitring(["run", "-q", &format!("--slow-after={time}")]);
        let output = run.write_stdin("true\n").output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{time}: {output:?}");
    }
}
