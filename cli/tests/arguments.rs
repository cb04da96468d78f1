//! Lists of arguments: from files, with delimiters, and several arguments for each job.

mod common;

use std::fs;
use std::path::Path;

use common::{exitring, jobs, shell, stdout};

/// A directory with the lists `l1` (1, 2) and `l2` (x, y, z).
fn lists() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("l1"), "1\n2\n").unwrap();
    fs::write(dir.path().join("l2"), "x\ny\nz\n").unwrap();
    dir
}

fn output_of(dir: &Path, words: &str) -> String {
    let mut run = exitring(["run", "-q", "-j1"]);
    stdout(run.args(words.split(' ')).current_dir(dir))
}

#[test]
fn lists_from_files_are_combined_and_linked() {
    let dir = lists();
    for (words, lines) in [
        ("-- echo :::: l1", "1\n2\n"),
        ("-- echo :::: l1 ::: a b", "1 a\n1 b\n2 a\n2 b\n"),
        ("-- echo ::: a b :::: l1", "a 1\na 2\nb 1\nb 2\n"),
        ("-- echo {2}{1} :::: l1 l2", "x1\ny1\nz1\nx2\ny2\nz2\n"),
        ("-- echo :::: l1 ::::+ l1 ::: a", "1 1 a\n2 2 a\n"),
        ("-- echo ::: a b ::::+ l1 l1", "a 1 1\nb 2 2\n"),
        ("-- echo ::: a :::: /dev/null", ""),
        ("-- echo :::: /dev/null ::: a", ""),
        ("-- echo :::: l1 :::: /dev/null", ""),
        ("-dx -- echo {}! :::: l2", "!\n\ny\nz\n!\n"),
    ] {
        assert_eq!(output_of(dir.path(), words), lines, "{words}");
    }
    let mut run = exitring(["run", "-q", "-j1", "--", "echo", "::::", "-", "l1"]);
    let output = stdout(run.current_dir(dir.path()).write_stdin("p\nq\n"));
    assert_eq!(output, "p 1\np 2\nq 1\nq 2\n");
}

#[test]
fn the_first_list_is_read_while_jobs_run() {
    // The writer of the list continues only after the first jobs have run.
    let dir = lists();
    let script = "(echo p; until [ -e p2 ]; do sleep 0.01; done; echo q) | $EXITRING run -q -j1 -- touch {1}{2} :::: - l1; ls";
    let output = shell(script).current_dir(dir.path()).output().unwrap();
    assert_eq!(output.stdout, b"l1\nl2\np1\np2\nq1\nq2\n", "{output:?}");
}

#[test]
fn an_unusable_list_is_an_error_before_anything_runs() {
    let dir = lists();
    fs::write(dir.path().join("long"), "x".repeat(200_000)).unwrap();
    for (words, why) in [
        ("-- touch ran :::: l1 /", "/ is a directory, not a list"),
        ("-- touch ran ::: a :::: .", ". is a directory, not a list"),
        ("-- touch ran :::: l1 none", "cannot read none"),
        (
            "-- touch ran ::: a ::::+ l1",
            "has 2 arguments, and the list before has 1",
        ),
        (
            "-- touch ran :::: l1 ::::+ l2",
            "has 3 arguments, and the list before has 2",
        ),
        ("-- touch ran ::::+ l1", "no list before"),
        ("-- touch ran ::::", "no file after"),
        ("-- touch ran :::: - -", "only one of the lists"),
        (
            "-- touch ran ::: a :::: long",
            "item 1 of long: the line is longer",
        ),
        ("l1 -- touch ran :::: l2", "not from both"),
        ("-d, -- touch ran ::: a,b", "--delimiter need a list"),
        ("-d, -0 l1", "cannot be used with"),
        ("-dab l1", "a delimiter is one byte"),
        ("-n2 l1", "<COMMAND>"),
        ("-n0 l1 -- touch ran", "would not depend on the list"),
        ("-nx l1 -- touch ran", "a number from 1"),
        (
            "-n2 -- touch ran ::: a ::: b",
            "takes the arguments of one list",
        ),
        (
            "-n2 -- touch ran :::: l1 l2",
            "takes the arguments of one list",
        ),
        ("-n2 l1 -- touch ran {3}", "one for each argument of a job"),
    ] {
        let mut run = exitring(["run", "-q"]);
        let output = run.args(words.split(' ')).current_dir(dir.path()).output();
        let output = output.unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words}: {text}");
        assert!(text.contains(why), "{words}: {text}");
        assert!(!dir.path().join("ran").exists(), "{words}");
    }
}

#[test]
fn items_end_with_the_delimiter_and_are_used_verbatim() {
    let echo = |options: &[&str], list: &str| {
        let mut run = exitring(["run", "-q", "-j1"]);
        stdout(
            run.args(options)
                .args(["--", "echo", "<{}>"])
                .write_stdin(list),
        )
    };
    assert_eq!(echo(&["-d,"], "a,,b\n,#c"), "<a>\n<>\n<b\n>\n<#c>\n");
    assert_eq!(echo(&["-d", ","], "a,b,"), "<a>\n<b>\n");
    assert_eq!(echo(&["--delimiter", "\\x2c"], "a,b"), "<a>\n<b>\n");
    assert_eq!(echo(&["-d", "\\0"], "a\0b"), "<a>\n<b>\n");
    assert_eq!(echo(&["-d", "\\n"], "a\r\n\nb"), "<a\r>\n<>\n<b>\n");
    // Commands, too.
    let mut run = exitring(["run", "-q", "-j1", "-d;"]);
    assert_eq!(
        stdout(run.write_stdin("echo a\necho b;echo c")),
        "a\nb\nc\n"
    );
}

#[test]
fn a_job_gets_up_to_n_arguments() {
    for (words, lines) in [
        ("-n2 -- echo ::: 1 2 3", "1 2\n3\n"),
        ("-n3 -- echo a{}b {#} ::: 1 2 3 4", "a1 2 3b 1\na4b 2\n"),
        ("-n2 -- echo {2}-{1} ::: 1 2 3", "2-1\n-3\n"),
        ("--max-args 9 -- echo {/} ::: a/1 b/2", "1 2\n"),
        ("-n2 l2 -- echo", "x y\nz\n"),
        ("-n2 -- echo :::: l2", "x y\nz\n"),
    ] {
        assert_eq!(output_of(lists().path(), words), lines, "{words}");
    }
    let mut run = exitring(["run", "-q", "-j1", "-0", "-n2", "--", "printf", "[%s]\\n"]);
    assert_eq!(
        stdout(run.write_stdin("a b\0\0c\nd\0")),
        "[a b]\n[]\n[c\nd]\n"
    );
    // {} is a word for each argument, also where it has spaces.
    let mut run = exitring(["run", "-q", "-j1", "-n2", "--", "printf", "[%s]\\n"]);
    let output = stdout(run.args(["{}", "-", "{}", ":::", "a b", "c"]));
    assert_eq!(output, "[a b]\n[c]\n[-]\n[a b]\n[c]\n");
}

#[test]
fn a_job_with_all_its_arguments_starts_before_the_list_ends() {
    // The writer of the list continues only after the first job has run.
    let dir = tempfile::tempdir().unwrap();
    let script = "(echo a; echo b; echo c; until [ -e b ]; do sleep 0.01; done; echo d) | $EXITRING run -q -n2 -- touch; ls";
    let output = shell(script).current_dir(dir.path()).output().unwrap();
    assert_eq!(output.stdout, b"a\nb\nc\nd\n", "{output:?}");
}

#[test]
fn a_job_has_no_more_arguments_than_fit() {
    let item = "x".repeat(50_000);
    let list = format!("{item}\n").repeat(5);
    let mut run = exitring([
        "run", "-q", "-j1", "-n", "1000", "--", "sh", "-c", "echo $#",
    ]);
    // $0 is one of them.
    assert_eq!(stdout(run.write_stdin(list)), "1\n1\n0\n");
}

#[test]
fn an_item_that_cannot_be_an_argument_is_a_failed_job_of_its_own() {
    let list = format!("a\nb\n{}\nc\nd\ne\n", "x".repeat(200_000));
    let mut run = exitring(["run", "-q", "-j1", "-n3", "--output", "jsonl", "--discard"]);
    let output = stdout(run.args(["--", "echo"]).write_stdin(list));
    let jobs = jobs(&output);
    let outcomes: Vec<_> = jobs.iter().map(|job| &job["success"]).collect();
    assert_eq!(outcomes, [true, false, true]);
    assert_eq!(jobs[0]["command"], "echo a b");
    assert_eq!(jobs[2]["command"], "echo c d e");
}

#[test]
fn a_run_with_several_arguments_is_resumed() {
    let dir = lists();
    let resume = |options: &str| {
        let script = format!(
            "$EXITRING run -q -j1 --joblog log {options} -n2 -- sh -c 'echo $*; [ $1 != z ]' sh :::: l2"
        );
        let mut run = shell(&script);
        let output = run.current_dir(dir.path()).output().unwrap();
        (output.status.code(), output.stdout)
    };
    assert_eq!(resume(""), (Some(1), b"x y\nz\n".to_vec()));
    assert_eq!(resume("--resume-failed"), (Some(1), b"z\n".to_vec()));
    assert_eq!(resume("--resume --shard 1/2"), (Some(0), b"".to_vec()));
}
