//! `--halt`: a run that ends early.

mod common;

use common::{code, exitring, jobs, stdout};

/// The numbers of the jobs that ran, one at a time, and the exit code.
fn run(rule: &str, list: &str) -> (Vec<u64>, Option<i32>) {
    let mut run = exitring(["run", "-q", "-j1", "--output", "jsonl", "--halt", rule]);
    let output = run.write_stdin(list).output().unwrap();
    let jobs = jobs(&String::from_utf8(output.stdout).unwrap());
    let numbers = jobs.iter().map(|job| job["job"].as_u64().unwrap());
    (numbers.collect(), output.status.code())
}

/// The exit codes of jobs of a list.
fn exits(codes: &[i32]) -> String {
    codes.iter().map(|code| format!("exit {code}\n")).collect()
}

#[test]
fn a_number_of_jobs_ends_the_run() {
    let list = exits(&[0, 1, 0, 1, 1, 0]);
    for (rule, last, code) in [
        ("soon,fail=1", 2, 1),
        ("now,fail=2", 4, 1),
        ("soon,fail=3", 5, 1),
        ("soon,fail=4", 6, 1),
        ("now,success=1", 1, 0),
        ("soon,success=2", 3, 0),
        ("soon,success=9", 6, 1),
        ("soon,done=3", 3, 1),
        ("soon,done=1", 1, 0),
        ("never", 6, 1),
        ("0", 6, 1),
        ("1", 2, 1),
        ("2", 2, 1),
        ("-1", 1, 0),
        ("-2", 1, 0),
    ] {
        let expected = ((1..=last).collect(), Some(code));
        assert_eq!(run(rule, &list), expected, "{rule}");
    }
}

#[test]
fn a_percentage_is_of_all_jobs() {
    // The arguments are known from the start.
    for (rule, last) in [
        ("soon,fail=50%", 6),
        ("now,fail=25%", 4),
        ("20%", 4),
        ("soon,done=100%", 8),
        ("soon,success=25%", 3),
    ] {
        let mut run = exitring(["run", "-q", "-j1", "--output", "jsonl", "--halt", rule]);
        let run = run.args(["--", "sh", "-c", "exit $0", ":::"]);
        let output = stdout(run.args(["0", "1", "0", "1", "1", "1", "0", "0"]));
        assert_eq!(jobs(&output).len(), last, "{rule}");
    }
}

#[test]
fn now_ends_running_jobs_and_soon_does_not() {
    let list = "until [ -e go ]; do sleep 0.02; done; sleep 0.2\ntouch go; exit 1\n";
    for (rule, interrupted) in [("soon,fail=1", false), ("now,fail=1", true)] {
        let dir = tempfile::tempdir().unwrap();
        let list = match interrupted {
            true => list.replace("0.2", "1000"),
            false => list.into(),
        };
        let mut run = exitring(["run", "-q", "-j2", "--output", "jsonl", "--halt", rule]);
        let output = stdout(run.current_dir(dir.path()).write_stdin(list));
        assert_eq!(jobs(&output)[0]["interrupted"], interrupted, "{output}");
    }
}

#[test]
fn a_success_that_was_asked_for_is_the_exit_code() {
    // The first job to succeed ends the others.
    let mut run = exitring(["run", "-q", "-j3", "--halt", "now,success=1"]);
    assert_eq!(
        code(run.write_stdin("sleep 1000\nfalse\nsleep 0.1\n")),
        Some(0)
    );
    let mut run = exitring(["run", "-q", "-j3", "--halt", "now,success=1"]);
    assert_eq!(code(run.write_stdin("false\nfalse\n")), Some(1));
}

#[test]
fn an_invalid_rule_is_refused() {
    for (options, why) in [
        (&["--halt", "now"][..], ""),
        (&["--halt", "now,fail=0"], "before its first job"),
        (&["--halt", "now,fail=200%"], "at most 100%"),
        (&["--halt", "later"], "a rule is WHEN,WHAT=N"),
        (&["--halt", "1", "--fail-fast"], "cannot be used with"),
    ] {
        let output = exitring(["run"]).args(options).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code() == Some(2), !why.is_empty(), "{text}");
        assert!(text.contains(why), "{options:?}: {text}");
    }
}
