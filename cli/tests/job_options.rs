//! Options for what jobs are and when they start: `--dry-run`, `--cwd`, `--env`, `--stdin`,
//! `--delay`.

mod common;

use std::fs;
use std::time::{Duration, Instant};

use common::{exitring, jobs, records, shell, stdout};

#[test]
fn a_dry_run_prints_the_commands_and_runs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let run = |options: &str, list: &str| {
        let mut run = exitring(["run", "--dry-run"]);
        let run = run.args(options.split(' ')).current_dir(dir.path());
        let output = run.write_stdin(list).output().unwrap();
        assert_eq!(output.stderr, b"");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(
        run("-j1", "touch a; echo b\n# c\n\ntouch d\n"),
        "touch a; echo b\ntouch d\n"
    );
    assert_eq!(
        run("-- touch {} {#}", "a b\nit's\n"),
        "touch 'a b' 1\ntouch 'it'\\''s' 2\n"
    );
    assert_eq!(run("-n2 -- touch ::: a b c", ""), "touch a b\ntouch c\n");
    assert_eq!(run("--shard 2/2 -- touch ::: a b c", ""), "touch b\n");
    assert_eq!(
        run("--log logs --joblog log -- touch {%} ::: a", ""),
        "touch '{%}'\n"
    );
    let text = run("--output jsonl -- touch ::: a", "");
    assert_eq!(
        text,
        "{\"type\":\"command\",\"job\":1,\"command\":\"touch a\"}\n"
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_dry_run_prints_what_is_left_to_run_and_leaves_the_log_alone() {
    let dir = tempfile::tempdir().unwrap();
    let script = "$EXITRING run -q --joblog log -- sh -c '[ $0 != b ]' ::: a b c; printf '{\"type\"' >> log; cp log before; \
                  $EXITRING run --dry-run --joblog log --resume -- sh -c '[ $0 != b ]' ::: a b c d; \
                  $EXITRING run --dry-run --joblog log --resume-failed -- sh -c '[ $0 != b ]' ::: a b c d; \
                  cmp log before && echo same";
    let output = shell(script).current_dir(dir.path()).output().unwrap();
    let d = "sh -c '[ $0 != b ]' d";
    let b = "sh -c '[ $0 != b ]' b";
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        format!("{d}\n{b}\n{d}\nsame\n"),
        "{output:?}"
    );
}

#[test]
fn a_dry_run_reports_lines_that_cannot_be_commands() {
    let mut run = exitring(["run", "--dry-run"]);
    let output = run.write_stdin("true\ntrue \0\n").output().unwrap();
    assert_eq!(output.stdout, b"true\n");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("job 2 could not be started"), "{text}");
    let output = shell("yes true | $EXITRING run --dry-run | head -n1; echo ${PIPESTATUS[1]}");
    assert_eq!(stdout(&mut { output }), "true\n141\n");
}

#[test]
fn jobs_run_in_the_directory_and_other_paths_are_relative_to_that_of_exitring() {
    let dir = tempfile::tempdir().unwrap();
    let script = "mkdir sub; printf '#!/bin/sh\\necho by script\\n' > sub/script; chmod +x sub/script; \
                  echo 'pwd -P; echo $PWD; ls\n./script' > list; \
                  $EXITRING run -q -j1 --cwd sub --joblog log list; \
                  $EXITRING run -q -j1 --cwd sub --log logs list; ls logs; \
                  $EXITRING run -q --cwd none list";
    let output = shell(script).current_dir(dir.path()).output().unwrap();
    let sub = dir.path().canonicalize().unwrap().join("sub");
    let sub = sub.display();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        format!("{sub}\n{sub}\nscript\nby script\n1.out\n2.out\n"),
        "{output:?}"
    );
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("cannot change to none"), "{text}");
    assert!(dir.path().join("log").exists());
}

#[test]
fn variables_are_set_for_jobs() {
    let mut run = exitring(["run", "-q", "--env", "A=1=2", "--env", "B=", "--env", "C"]);
    let run = run.env("C", "c").env("B", "b");
    let output = stdout(run.write_stdin("echo \"$A,$B,$C,$EXITRING_JOB\"\n"));
    assert_eq!(output, "1=2,,c,1\n");
    for (variable, why) in [
        (
            "NOT_SET_ANYWHERE",
            "NOT_SET_ANYWHERE: the variable is not set",
        ),
        ("=x", "needs a name"),
        ("", "needs a name"),
        ("EXITRING_SLOT=9", "sets this variable for each job"),
        ("EXITRING_SHARD=1/2", "sets this variable for each job"),
    ] {
        let mut run = exitring(["run", "--env", variable]);
        let output = run.write_stdin("true\n").output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(why), "{text}");
    }
}

#[test]
fn a_path_for_jobs_also_finds_their_programs() {
    let dir = tempfile::tempdir().unwrap();
    let script = "printf '#!/bin/sh\\necho found\\n' > only-here; chmod +x only-here; echo only-here | $EXITRING run -q --env PATH=$PWD:$PATH";
    let mut run = shell(script);
    assert_eq!(stdout(run.current_dir(dir.path())), "found\n");
}

#[test]
fn jobs_read_what_stdin_names() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.in"), "in a\n").unwrap();
    fs::write(dir.path().join("b.in"), "in b").unwrap();
    let run = |words: &[&str]| {
        let mut run = exitring(["run", "-q", "-j1", "--stdin"]);
        stdout(run.args(words).current_dir(dir.path()).write_stdin("x\n"))
    };
    assert_eq!(run(&["null", "--", "cat", "-", ":::"]), "");
    assert_eq!(run(&["null", "--", "sh", "-c", "cat; echo $0"]), "x\n");
    assert_eq!(
        run(&["{}.in", "--", "sh", "-c", "cat; cat", ":::", "a", "b"]),
        "in a\nin b\n"
    );
    // Each job reads the file from its beginning.
    assert_eq!(
        run(&["a.in", "--", "sh", "-c", "cat", ":::", "1", "2"]),
        "in a\nin a\n"
    );
    let job = "cat; [ $EXITRING_ATTEMPT = 2 ]";
    let retried = ["arg", "--retries", "1", "--", "sh", "-c", job, ":::", "a b"];
    assert_eq!(run(&retried), "a b\na b\n");
    let many = [
        "arg",
        "-n2",
        "--",
        "sh",
        "-c",
        "cat; echo .",
        ":::",
        "a",
        "b",
        "c",
    ];
    assert_eq!(run(&many), "a\nb\n.\nc\n.\n");
    // A list of commands: the line is the argument.
    let mut run = exitring(["run", "-q", "--stdin", "arg"]);
    assert_eq!(stdout(run.write_stdin("wc -l\n")).trim(), "1");
    // An argument longer than a pipe holds.
    let mut run = exitring([
        "run", "-q", "--stdin", "arg", "-0", "--", "sh", "-c", "wc -c",
    ]);
    assert_eq!(
        stdout(run.write_stdin("x".repeat(100_000))).trim(),
        "100001"
    );
}

#[test]
fn a_job_whose_input_cannot_be_opened_is_reported_and_fails() {
    let mut run = exitring(["run", "-q", "--output", "jsonl", "--stdin", "/none/{}"]);
    let output = run.args(["--", "cat", ":::", "a"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("cannot read /none/a: No such file"), "{text}");
    let jobs = jobs(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(jobs[0]["outcome"], "not_started");
    assert_eq!(jobs[0]["exit_code"], 1);
    let output = exitring(["run", "--stdin", ""]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    for own in ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"] {
        let mut run = exitring(["run", "-q", "--stdin", own, "--", "cat", ":::", "a"]);
        let output = run.write_stdin("text").output().unwrap();
        assert_eq!((output.status.code(), output.stdout), (Some(1), vec![]));
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("is the standard input of exitring"), "{text}");
    }
}

#[test]
fn starts_follow_one_another_after_the_delay() {
    let begun = Instant::now();
    let mut run = exitring(["run", "-q", "-j5", "--delay", "100ms", "--output", "jsonl"]);
    let output = stdout(run.write_stdin("true\n".repeat(5)));
    // The least time, however slow the machine is.
    assert!(begun.elapsed() >= Duration::from_millis(400));
    assert_eq!(records(&output).len(), 5);
    // A delay does not outlast the run.
    let list = "true\nfalse\ntrue\n";
    let mut run = exitring(["run", "-q", "-j1", "--delay", "0", "--fail-fast"]);
    assert_eq!(
        run.write_stdin(list).output().unwrap().status.code(),
        Some(1)
    );
    let mut run = exitring(["run", "-q", "-j3", "--delay", "1000h", "--fail-fast"]);
    let output = run.write_stdin("false\ntrue\ntrue\n").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_fifo_is_no_input_of_jobs() {
    let dir = tempfile::tempdir().unwrap();
    let script = "mkfifo fifo; $EXITRING run -q --output jsonl --stdin fifo -- cat ::: 1";
    let output = shell(script).current_dir(dir.path()).output().unwrap();
    let jobs = jobs(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(
        (&jobs[0]["outcome"], &jobs[0]["exit_code"]),
        (&"not_started".into(), &1.into())
    );
    let reason = jobs[0]["reason"].as_str().unwrap();
    assert!(
        reason.contains("cannot read fifo: it is a FIFO"),
        "{reason}"
    );
}
