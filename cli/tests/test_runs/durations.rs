//! The order of jobs, and shards, by the durations in a job log.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::common::{code, exitring, jobs, stderr, stdout};

/// Runs a list, and sets the durations in its log.
fn write_log(dir: &Path, list: &str, seconds: &[f64]) {
    fs::write(dir.join("list"), list).unwrap();
    let mut run = exitring(["run", "-q", "-j1", "--joblog", "raw", "list"]);
    let _ = run.current_dir(dir).output().unwrap();
    let raw = fs::read_to_string(dir.join("raw")).unwrap();
    let mut log = String::new();
    for (mut job, seconds) in jobs(&raw).into_iter().zip(seconds) {
        job["wall_seconds"] = (*seconds).into();
        log += &format!("{job}\n");
    }
    fs::write(dir.join("log"), log).unwrap();
}

fn dry_run(dir: &Path, options: &[&str], list: &str) -> Vec<String> {
    let mut run = exitring(["run", "--dry-run", "--durations", "log"]);
    let run = run.args(options).current_dir(dir).write_stdin(list);
    stdout(run).lines().map(str::to_owned).collect()
}

#[test]
fn the_longest_job_comes_first_and_unknown_ones_get_the_median() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_log(dir, "true a\ntrue b\ntrue c\n", &[1.0, 30.0, 5.0]);
    // The list has another order and other jobs.
    let list = "true new\ntrue a\ntrue c\ntrue b\ntrue new2\n";
    let expected = ["true b", "true new", "true c", "true new2", "true a"];
    assert_eq!(dry_run(dir, &[], list), expected);
    let mut run = exitring(["run", "-qj1", "--durations", "log", "--output", "jsonl"]);
    let output = stdout(run.current_dir(dir).write_stdin(list));
    let started = crate::common::records(&output);
    let started: Vec<_> = started.iter().map(|job| job["command"].clone()).collect();
    assert_eq!(started, expected);
    // The numbers are those of the list.
    assert_eq!(jobs(&output)[3]["command"], "true b");
}

#[test]
fn output_stays_in_the_order_of_the_list() {
    let dir = tempfile::tempdir().unwrap();
    let list = "echo a\necho b\necho c\n";
    write_log(dir.path(), list, &[1.0, 30.0, 5.0]);
    for jobs in ["-j1", "-j3"] {
        let mut run = exitring(["run", "-qk", jobs, "--durations", "log", "list"]);
        assert_eq!(stdout(run.current_dir(dir.path())), "a\nb\nc\n");
    }
}

#[test]
fn shards_take_equally_long_and_have_each_job_once() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let list: String = (1..=20).map(|job| format!("true {job}\n")).collect();
    let seconds: Vec<f64> = (1..=20).map(f64::from).collect();
    write_log(dir, &list, &seconds);
    for count in [1, 2, 3, 7, 30] {
        let mut all = Vec::new();
        for index in 1..=count {
            let shard = format!("{index}/{count}");
            let jobs = dry_run(dir, &["--shard", &shard], &list);
            let number = |job: &String| job["true ".len()..].parse::<u64>().unwrap();
            let load: u64 = jobs.iter().map(number).sum();
            if count <= 7 {
                // 210 seconds in all; the parts differ by the longest job at most.
                let fair = 210 / count;
                assert!(load.abs_diff(fair) <= 20, "{shard}: {jobs:?}");
            }
            all.extend(jobs);
        }
        assert_eq!(all.len(), 20, "{count}");
        assert_eq!(all.into_iter().collect::<BTreeSet<_>>().len(), 20);
    }
}

#[test]
fn a_list_without_a_log_is_divided_evenly() {
    let mut parts = Vec::new();
    for shard in ["1/2", "2/2"] {
        let mut run = exitring([
            "run",
            "--dry-run",
            "--durations",
            "/dev/null",
            "--shard",
            shard,
        ]);
        parts.push(stdout(run.write_stdin("true 1\ntrue 2\ntrue 3\n")));
    }
    assert_eq!(parts, ["true 1\ntrue 3\n", "true 2\n"]);
}

#[test]
fn each_round_is_sorted() {
    let dir = tempfile::tempdir().unwrap();
    let list = "echo a\necho b\n";
    write_log(dir.path(), list, &[1.0, 2.0]);
    let expected = ["echo b", "echo a", "echo b", "echo a"];
    assert_eq!(dry_run(dir.path(), &["--repeat", "2"], list), expected);
    // Shards take the same jobs in each round.
    let expected = ["echo a", "echo a"];
    assert_eq!(
        dry_run(dir.path(), &["--repeat", "2", "--shard", "2/2"], list),
        expected
    );
}

#[test]
fn a_run_that_is_sorted_can_be_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let list = "echo 1\n[ -e second ] # 2\necho 3\n";
    write_log(dir, list, &[1.0, 2.0, 3.0]);
    let run = |option: &[&str]| {
        let mut run = exitring(["run", "-q", "--durations", "log", "--joblog", "new", "list"]);
        stdout(run.args(option).current_dir(dir))
    };
    assert_eq!(run(&["-j1"]), "3\n1\n");
    fs::write(dir.join("second"), "").unwrap();
    assert_eq!(run(&["--resume-failed"]), "");
    let new = fs::read_to_string(dir.join("new")).unwrap();
    assert_eq!(new.lines().count(), 4, "{new}");
    assert_eq!(run(&["--resume-failed"]), "");
    assert_eq!(fs::read_to_string(dir.join("new")).unwrap(), new);
}

#[test]
fn a_log_that_is_damaged_or_of_another_format_is_refused_and_not_changed() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_log(dir, "true a\ntrue b\n", &[1.0, 2.0]);
    let log = fs::read_to_string(dir.join("log")).unwrap();
    let (first, second) = log.split_once('\n').unwrap();
    let parallel = "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n\
                    1\t:\t1700000000.000\t1.000\t0\t0\t0\t0\ttrue\n";
    let with = |value: &str| {
        log.replacen(
            "\"wall_seconds\":1.0",
            &format!("\"wall_seconds\":{value}"),
            1,
        )
    };
    assert_ne!(with("9"), log);
    for (text, why) in [
        (
            parallel.to_owned(),
            "line 1 of the job log bad is not a record",
        ),
        (
            format!("{}\n{second}", &first[..40]),
            "line 1 of the job log bad",
        ),
        (format!("{first}\nrubbish"), "is not the start of a record"),
        (with("NaN"), "line 1"),
        (with("null"), "line 1"),
        (with("-1.0"), "line 1"),
        (with("1e400"), "line 1"),
        (with("\"1\""), "line 1"),
        ("\0\0\0\0".repeat(5000), "not the start of a record"),
    ] {
        fs::write(dir.join("bad"), &text).unwrap();
        for option in ["--durations", "--rerun-failed"] {
            let mut run = exitring(["run", option, "bad"]);
            let run = run.current_dir(dir).write_stdin("touch ran\n");
            let output = run.output().unwrap();
            let message = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{option} {text}: {message}");
            assert!(message.contains(why), "{option} {text}: {message}");
        }
        assert_eq!(fs::read_to_string(dir.join("bad")).unwrap(), text);
    }
    assert!(!dir.join("ran").exists());
    for missing in ["missing", "."] {
        let mut run = exitring(["run", "--durations", missing]);
        let text = stderr(run.current_dir(dir).write_stdin(""));
        assert!(text.contains("cannot read the job log"), "{text}");
    }
    // A time that is huge is a duration.
    fs::write(dir.join("log"), with("1e300")).unwrap();
    assert_eq!(dry_run(dir, &[], "true b\ntrue a\n"), ["true a", "true b"]);
}

#[test]
fn an_incomplete_last_line_of_a_killed_run_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_log(dir, "true a\ntrue b\nfalse\n", &[1.0, 2.0, 3.0]);
    let log = fs::read_to_string(dir.join("log")).unwrap();
    let whole = log.trim_end().rfind('\n').unwrap() + 1;
    // As this program writes it. `write_log` has another order of fields.
    let torn = format!("{}{{\"type\":\"job\",\"job\":3,\"com", &log[..whole]);
    fs::write(dir.join("log"), &torn).unwrap();
    assert_eq!(dry_run(dir, &[], "true a\ntrue b\n"), ["true b", "true a"]);
    assert_eq!(fs::read_to_string(dir.join("log")).unwrap(), torn);
    let mut run = exitring(["run", "--rerun-failed", "log"]);
    let text = stderr(run.current_dir(dir).write_stdin("false\n"));
    assert!(text.contains("no job failed in log"), "{text}");
}

#[test]
fn only_jobs_that_failed_run_again_whatever_their_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let list = "true a\n[ -e fixed ] # b\n[ -e fixed ] # c\ntrue d\n";
    write_log(dir, list, &[1.0; 4]);
    let rerun = |list: &str, options: &[&str]| {
        let mut run = exitring([
            "run",
            "-q",
            "-j1",
            "--output",
            "jsonl",
            "--rerun-failed",
            "raw",
        ]);
        let run = run.args(options).current_dir(dir);
        let output = run.write_stdin(list).output().unwrap();
        let jobs = jobs(&String::from_utf8(output.stdout).unwrap());
        let jobs = jobs.iter().map(|job| {
            let command = job["command"].as_str().unwrap().to_owned();
            (job["job"].as_u64().unwrap(), command)
        });
        let message = String::from_utf8(output.stderr).unwrap();
        (jobs.collect::<Vec<_>>(), output.status.code(), message)
    };
    let job = |number, command: &str| (number, format!("[ -e fixed ] # {command}"));
    let (ran, code, message) = rerun(list, &[]);
    assert_eq!(
        (ran, code),
        (vec![job(2, "b"), job(3, "c")], Some(1)),
        "{message}"
    );
    assert_eq!(message, "");
    // Another order, and more jobs.
    let (ran, ..) = rerun("[ -e fixed ] # c\nfalse\n[ -e fixed ] # b\n", &[]);
    assert_eq!(ran, [job(1, "c"), job(3, "b")]);
    let (ran, _, message) = rerun("[ -e fixed ] # c\n", &[]);
    assert_eq!(ran, [job(1, "c")]);
    assert!(
        message.contains("1 of the 2 commands that failed in raw are not in the list"),
        "{message}"
    );
    let (ran, code, message) = rerun("true other\n", &[]);
    assert_eq!((ran, code), (vec![], Some(2)), "{message}");
    assert!(message.contains("none of the 2 commands"), "{message}");
    // Shards divide what failed.
    let (first, ..) = rerun(list, &["--shard", "1/2"]);
    let (second, ..) = rerun(list, &["--shard", "2/2"]);
    assert_eq!((first, second), (vec![job(3, "c")], vec![job(2, "b")]));
    fs::write(dir.join("fixed"), "").unwrap();
    let (_, code, _) = rerun(list, &["--joblog", "again"]);
    assert_eq!(code, Some(0));
}

#[test]
fn a_log_without_failures_runs_nothing_and_succeeds() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_log(dir, "true\n", &[1.0]);
    let mut run = exitring(["run", "-q", "--rerun-failed", "log", "--junit", "r.xml"]);
    let output = run
        .current_dir(dir)
        .write_stdin("touch ran\n")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert_eq!(
        text,
        "no job failed in log: there is nothing to run again\n"
    );
    assert!(!dir.join("ran").exists());
    assert_eq!(crate::junit::read(&dir.join("r.xml")).tests, 0);
}

#[test]
fn without_failures_all_files_are_written_and_have_no_jobs() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_log(dir, "true\n", &[1.0]);
    let files = [
        ["--report", "r.html"],
        ["--trace", "t.json"],
        ["--junit", "r.xml"],
        ["--joblog", "log.again"],
    ];
    let rerun = |more: &[&str]| {
        let mut run = exitring(["run", "--rerun-failed", "log", "--output", "jsonl"]);
        let run = run.args(files.concat()).args(more).current_dir(dir);
        let output = run.write_stdin("touch ran\n").output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "");
    };
    rerun(&["--dry-run"]);
    for [_, file] in files {
        assert!(!dir.join(file).exists(), "{file}");
    }
    rerun(&[]);
    assert!(!dir.join("ran").exists());
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
    let page = read("r.html");
    assert!(!crate::common::html::elements(&page).is_empty());
    assert!(page.contains("No job was run."), "{page}");
    let trace: Vec<serde_json::Value> = serde_json::from_str(&read("t.json")).unwrap();
    assert!(trace.iter().all(|event| event["ph"] == "M"), "{trace:?}");
    assert_eq!(crate::junit::read(&dir.join("r.xml")).tests, 0);
    assert_eq!(read("log.again"), "");
    // As for every other run, two runs do not write to one file.
    let mut run = exitring([
        "run",
        "--rerun-failed",
        "log",
        "--report",
        "x",
        "--trace",
        "x",
    ]);
    assert_eq!(crate::common::code(run.current_dir(dir)), Some(2));
}

#[test]
fn the_last_record_of_a_job_counts() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let run = |option: &[&str]| {
        let mut run = exitring(["run", "-q", "--joblog", "log"]);
        let run = run.args(option).current_dir(dir);
        code(run.write_stdin("[ -e fixed ]\nfalse\n"))
    };
    assert_eq!(run(&[]), Some(1));
    fs::write(dir.join("fixed"), "").unwrap();
    assert_eq!(run(&["--resume-failed"]), Some(1));
    let mut rerun = exitring(["run", "--dry-run", "--rerun-failed", "log"]);
    let rerun = rerun.current_dir(dir).write_stdin("[ -e fixed ]\nfalse\n");
    assert_eq!(stdout(rerun), "false\n");
}
#[test]
fn a_wall_clock_that_is_set_back_does_not_change_durations() {
    let Some(library) = crate::clock::library() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    // Each reading of the wall clock is an hour before the last one.
    let mut run = exitring(["run", "-j1", "--junit", "r.xml", "--output", "jsonl"]);
    run.args(["--joblog", "log", "--slow-after", "1h"]);
    let run = run.env("LD_PRELOAD", library).current_dir(dir.path());
    let output = stdout(run.write_stdin("sleep 0.1\ntrue\n"));
    let jobs = jobs(&output);
    let started = |job: usize| jobs[job]["started_at"].as_str().unwrap().to_owned();
    assert!(started(1) < started(0), "the clock was set back: {output}");
    let wall = jobs[0]["wall_seconds"].as_f64().unwrap();
    assert!((0.1..60.0).contains(&wall), "{wall}");
    let report = crate::junit::read(&dir.path().join("r.xml"));
    let time = report.time.unwrap().as_secs_f64();
    assert!((0.1..60.0).contains(&time), "{time}");
    // The log of such a run is as good as any.
    let mut shard = exitring(["run", "--durations", "log", "--dry-run"]);
    let order = stdout(
        shard
            .current_dir(dir.path())
            .write_stdin("true\nsleep 0.1\n"),
    );
    assert_eq!(order.lines().count(), 2, "{order}");
}
