//! Lists, exit codes, and errors in the command line or a list.

mod common;

use common::{code, exitring, jobs, shell, stderr, stdout};

#[test]
fn every_line_is_a_job_and_its_record_says_how_it_ended() {
    let list =
        "true\nexit 3\nkill -9 $$\nsleep 0.05\n\n  # a comment\nno-such-command-here x\n./\n";
    let output = stdout(exitring(["run", "-j", "3", "--output", "jsonl"]).write_stdin(list));
    let jobs = jobs(&output);
    assert_eq!(jobs.len(), 6, "blank lines and comments are none");
    let outcome = |number: usize| {
        (
            jobs[number - 1]["outcome"].as_str().unwrap(),
            jobs[number - 1]["success"].as_bool().unwrap(),
        )
    };
    assert_eq!(outcome(1), ("exited", true));
    assert_eq!(outcome(2), ("exited", false));
    assert_eq!(jobs[1]["exit_code"], 3);
    assert_eq!(outcome(3), ("signaled", false));
    assert_eq!(jobs[2]["signal"], 9);
    assert!(jobs[3]["wall_seconds"].as_f64().unwrap() >= 0.05);
    assert!(jobs[3]["max_rss_bytes"].as_u64().unwrap() > 0);
    assert!(jobs[3]["user_seconds"].is_f64() && jobs[3]["system_seconds"].is_f64());
    assert_eq!(outcome(5), ("not_started", false));
    assert!(
        jobs[4]["reason"]
            .as_str()
            .unwrap()
            .contains("no such program"),
        "{}",
        jobs[4]
    );
    assert_eq!(outcome(6), ("not_started", false));
    assert!(
        jobs.iter()
            .enumerate()
            .all(|(index, job)| job["job"] == index as u64 + 1 && job["attempts"] == 1)
    );
    assert_eq!(jobs[1]["command"], "exit 3");
}

#[test]
fn the_exit_code_shows_whether_jobs_failed() {
    assert_eq!(code(exitring(["run"]).write_stdin("true\ntrue\n")), Some(0));
    assert_eq!(
        code(exitring(["run"]).write_stdin("true\nfalse\n")),
        Some(1)
    );
    assert_eq!(code(exitring(["run"]).write_stdin("")), Some(0));
    assert_eq!(
        code(exitring(["run"]).write_stdin("no-such-command-here\n")),
        Some(1)
    );
}

#[test]
fn invalid_arguments_are_refused_with_a_reason() {
    for (arguments, words) in [
        (&["run", "/no/such/list"][..], "cannot read /no/such/list"),
        (&["run", "/"], "is a directory"),
        (&["run", "-j", "0"], "N is a number from 1"),
        (&["run", "--timeout", "soon"], "a duration is"),
        (&["run", "--timeout", "1d"], "there are no days"),
        (&["run", "--timeout", "0"], "leave the option out"),
        (&["run", "echo hi"], "exitring run -- echo hi"),
        (
            &["run", "--", "echo", "{2}", ":::", "1"],
            "{2} is not a placeholder",
        ),
        (&["run", "--", "echo", "{2}"], "{2} is not a placeholder"),
        (
            &["run", "--", "echo", "{0}", ":::", "1"],
            "{0} is not a placeholder",
        ),
        (&["run", "--", "echo", ":::"], "no arguments after a :::"),
        (
            &["run", "--", "echo", ":::", "1", "::::", "/no/such/list"],
            "cannot read /no/such/list",
        ),
        (&["run", "--shard", "3/2"], "a shard is i/n"),
        (&["run", "--resume"], "--joblog"),
        (&["run", "--log", "/dev/null/x"], "cannot use the directory"),
        (
            &["run", "--append", "/no/such/directory/file"],
            "cannot append",
        ),
        (
            &["run", "--joblog", "/no/such/directory/log"],
            "cannot open the job log",
        ),
        (&["run", "--inherit", "--output", "jsonl"], "--inherit"),
        (&["run", "--", ":::", "1"], "no command before :::"),
        (&["run", "list", "--", "echo", ":::", "1"], "not from both"),
    ] {
        let output = exitring(arguments.iter().copied()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains(words), "{arguments:?}: {text}");
    }
}

#[test]
fn the_error_for_an_unreadable_list_names_it() {
    // Root can open any file, but reading this one fails.
    let text = stderr(&mut exitring(["run", "/proc/self/mem"]));
    assert!(text.contains("cannot read /proc/self/mem"), "{text}");
    assert_eq!(code(&mut exitring(["run", "/proc/self/mem"])), Some(2));
}

#[test]
fn an_invalid_line_fails_and_the_run_continues() {
    let long = format!("true {}", "x".repeat(200_000));
    let list = format!("true\ntrue \0 x\n{long}\ntrue");
    let output = stdout(exitring(["run", "--output", "jsonl"]).write_stdin(list));
    let jobs = jobs(&output);
    let successes: Vec<_> = jobs
        .iter()
        .map(|job| job["success"].as_bool().unwrap())
        .collect();
    assert_eq!(successes, [true, false, false, true]);
    assert!(jobs[1]["reason"].as_str().unwrap().contains("NUL"));
    assert!(jobs[2]["reason"].as_str().unwrap().contains("longer than"));
}

#[test]
fn a_comment_may_be_longer_than_a_command() {
    let long = "x".repeat(200_000);
    let list = format!("# {long}\ntrue\n  #{long}");
    let output = stdout(exitring(["run", "--output", "jsonl"]).write_stdin(list));
    let jobs = jobs(&output);
    assert_eq!((jobs.len(), &jobs[0]["command"]), (1, &"true".into()));
}

#[test]
fn lists_with_windows_line_ends_are_accepted() {
    let list = "\u{feff}echo a\r\n\r\necho 'b' \r\n# c\r\nprintf %s d\\\\r\r\n";
    let output = stdout(exitring(["run", "-j1", "--output", "jsonl"]).write_stdin(list));
    let commands: Vec<_> = jobs(&output)
        .iter()
        .map(|job| job["command"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(commands, ["echo a", "echo 'b' ", "printf %s d\\\\r"]);
    let output =
        stdout(exitring(["run", "-j1", "--", "echo", "<{}>"]).write_stdin("\u{feff}a\r\n\r\nb\r"));
    assert_eq!(output, "<a>\n<>\n<b>\n");
    // The maximal length, and one byte more.
    for (length, outcome) in [(131_071, "exited"), (131_072, "not_started")] {
        let list = format!("\u{feff}{}\r\ntrue\r\n", "x".repeat(length));
        let mut run = exitring(["run", "--output", "jsonl", "--", "true"]);
        let jobs = jobs(&stdout(run.write_stdin(list)));
        assert_eq!((jobs.len(), &jobs[0]["outcome"]), (2, &outcome.into()));
    }
}

#[test]
fn failed_jobs_are_retried() {
    let dir = tempfile::tempdir().unwrap();
    let tries = dir.path().join("tries");
    // The third attempt succeeds.
    let list = format!(
        "echo >> {0}; test $(wc -l < {0}) -ge 3\nfalse\n",
        tries.display()
    );
    let output = exitring(["run", "--retries", "3", "--output", "jsonl"])
        .write_stdin(list)
        .output()
        .unwrap();
    let jobs = jobs(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(
        (&jobs[0]["attempts"], &jobs[0]["success"]),
        (&3.into(), &true.into())
    );
    assert_eq!(
        (&jobs[1]["attempts"], &jobs[1]["success"]),
        (&4.into(), &false.into())
    );
    assert_eq!(jobs.len(), 2, "one record for each job");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn fail_fast_starts_no_more_jobs_after_a_failure() {
    let list = format!("sleep 0.3\nfalse\n{}", "true\n".repeat(5000));
    let output = stdout(
        exitring(["run", "-j", "2", "--fail-fast", "--output", "jsonl"]).write_stdin(list.clone()),
    );
    let soon = jobs(&output);
    assert!(soon.len() < 5002, "{}", soon.len());
    assert_eq!(
        soon[0]["success"], true,
        "running jobs continued: {}",
        soon[0]
    );

    let list = list.replace("sleep 0.3", "sleep 1000");
    let output = stdout(
        exitring(["run", "-j", "2", "--fail-fast=now", "--output", "jsonl"]).write_stdin(list),
    );
    let now = jobs(&output);
    assert_eq!(now[0]["interrupted"], true, "{}", now[0]);
}

#[test]
fn jobs_start_while_the_list_is_still_being_written() {
    // The second line arrives after the first job has run, and the writer keeps the pipe open until
    // then.
    let dir = tempfile::tempdir().unwrap();
    let script = "cd $0; (echo touch a; until [ -e a ]; do sleep 0.01; done; echo touch b) | $EXITRING run && ls";
    let output = shell(script).args([dir.path()]).output().unwrap();
    assert_eq!(output.stdout, b"a\nb\n", "{output:?}");
}

#[test]
fn closed_standard_streams_do_not_crash() {
    let output = shell("$EXITRING run <&-; echo $?; echo true | $EXITRING run >&- 2>&-; echo $?")
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"0\n0\n", "{output:?}");
}
