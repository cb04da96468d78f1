//! Lists that run several times.

use std::fs;

use crate::common::{code, exitring, jobs, numbers, stderr, stdout};
use crate::junit::{cases, read};

#[test]
fn the_list_runs_as_often_as_asked_for_with_numbers_that_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = exitring(["run", "-j1", "--repeat", "3", "--output", "jsonl"]);
    run.args(["--junit", "r.xml", "--joblog", "log"]);
    let list = "echo a $EXITRING_JOB.$EXITRING_REPEAT\necho b $EXITRING_JOB.$EXITRING_REPEAT\n";
    let output = stdout(run.current_dir(dir.path()).write_stdin(list));
    let lines: Vec<_> = crate::common::records(&output)
        .iter()
        .filter_map(|record| record["line"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(
        lines,
        ["a 1.1", "b 2.1", "a 3.2", "b 4.2", "a 5.3", "b 6.3"]
    );
    let repeats = jobs(&output).into_iter().map(|job| job["repeat"].as_u64());
    assert!(repeats.eq([1, 1, 2, 2, 3, 3].map(Some)), "{output}");
    let report = read(&dir.path().join("r.xml"));
    let names: Vec<_> = cases(&report)
        .iter()
        .map(|case| case.name.as_str())
        .collect();
    assert_eq!(names.len(), 6);
    assert_eq!(names[0], "echo a $EXITRING_JOB.$EXITRING_REPEAT (repeat 1)");
    // The log can be resumed: all is done.
    let mut run = exitring(["run", "--repeat", "3", "--joblog", "log", "--resume"]);
    let text = stderr(run.current_dir(dir.path()).write_stdin(list));
    assert!(text.contains("6 were done by an earlier run"), "{text}");
}

#[test]
fn templates_are_filled_again() {
    let template = [
        "--", "echo", "{#}", "{2}", "{1}", ":::", "a", "b", ":::+", "1", "2",
    ];
    let mut run = exitring(["run", "-kq", "--repeat", "2"]);
    let output = stdout(run.args(template));
    assert_eq!(output, "1 1 a\n2 2 b\n3 1 a\n4 2 b\n");
    let mut run = exitring([
        "run", "-kq", "--repeat", "2", "-n2", "--", "echo", "{#}", "{}",
    ]);
    let output = stdout(run.write_stdin("a\nb\nc\n"));
    assert_eq!(output, "1 a b\n2 c\n3 a b\n4 c\n");
    let mut run = exitring([
        "run",
        "--dry-run",
        "--repeat",
        "2",
        "--",
        "echo",
        "{#}",
        "{}",
    ]);
    assert_eq!(stdout(run.write_stdin("a\n")), "echo 1 a\necho 2 a\n");
}

#[test]
fn without_the_option_no_job_is_told_of_a_repeat() {
    let mut run = exitring(["run", "--output", "jsonl"]);
    let output = stdout(run.write_stdin("echo ${EXITRING_REPEAT-none}\n"));
    let records = crate::common::records(&output);
    assert_eq!(records[0]["line"], "none");
    assert_eq!(records[1].get("repeat"), None);
}

#[test]
fn lines_that_cannot_be_executed_are_repeated_too() {
    let mut run = exitring(["run", "-q", "--repeat", "2", "--output", "jsonl"]);
    let output = stdout(run.write_stdin(format!("{}\ntrue\n", "x".repeat(200_000))));
    let outcomes: Vec<_> = jobs(&output)
        .iter()
        .map(|job| job["outcome"].clone())
        .collect();
    assert_eq!(outcomes, ["not_started", "exited", "not_started", "exited"]);
}

#[test]
fn until_fail_ends_at_the_first_failure() {
    let dir = tempfile::tempdir().unwrap();
    let list = "echo $EXITRING_REPEAT >> done; [ $EXITRING_REPEAT -lt 7 ]\ntrue\n";
    let mut run = exitring(["run", "-q", "-j1", "--until-fail"]);
    assert_eq!(code(run.current_dir(dir.path()).write_stdin(list)), Some(1));
    assert_eq!(
        numbers(&dir.path().join("done")),
        (1..=7).collect::<Vec<_>>()
    );
}

#[test]
fn until_fail_ends_after_all_repeats() {
    let dir = tempfile::tempdir().unwrap();
    let mut run = exitring(["run", "-q", "--until-fail", "--repeat", "5"]);
    let run = run
        .current_dir(dir.path())
        .write_stdin("echo $EXITRING_REPEAT >> done\n");
    assert_eq!(code(run), Some(0));
    assert_eq!(
        numbers(&dir.path().join("done")),
        (1..=5).collect::<Vec<_>>()
    );
}

#[test]
fn until_fail_ends_if_there_is_nothing_to_repeat() {
    let mut run = exitring(["run", "-q", "--until-fail"]);
    assert_eq!(code(run.write_stdin("# no job\n")), Some(0));
    // This part of the list has no job.
    let mut run = exitring(["run", "-q", "--until-fail", "--shard", "2/2"]);
    assert_eq!(code(run.write_stdin("false\n")), Some(0));
}

#[test]
fn each_shard_repeats_its_jobs() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("list"), "echo a\necho b\necho c\n").unwrap();
    let part = |shard: &str| {
        let mut run = exitring(["run", "-qk", "--repeat", "2", "--shard", shard, "list"]);
        stdout(run.current_dir(dir.path()))
    };
    assert_eq!(
        (part("1/2"), part("2/2")),
        ("a\nc\na\nc\n".into(), "b\nb\n".into())
    );
}

#[test]
fn invalid_numbers_are_refused() {
    for (options, why) in [
        (&["--repeat", "0"][..], "with 0 no job would run"),
        (&["--repeat", "-1"], "'-1'"),
        (&["--repeat", "4294967296"], "from 1 to 4294967295"),
        (&["--until-fail", "--halt", "2"], "cannot be used with"),
    ] {
        let output = exitring(["run"]).args(options).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{options:?}: {text}");
        assert!(text.contains(why), "{options:?}: {text}");
    }
}
