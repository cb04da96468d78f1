//! Lists, templates, exit codes, and what is wrong with a list.

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
fn the_exit_code_says_whether_some_failed() {
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
fn what_cannot_be_is_refused_with_a_reason() {
    for (arguments, words) in [
        (&["run", "/no/such/list"][..], "cannot read /no/such/list"),
        (&["run", "/"], "is a directory"),
        (&["run", "-j", "0"], "0 is not in"),
        (&["run", "--timeout", "soon"], "a duration is"),
        (&["run", "--timeout", "1d"], "there are no days"),
        (&["run", "--timeout", "0"], "leave it out"),
        (&["run", "echo hi"], "exitring run -- echo hi"),
        (&["run", "--", "echo", "{2}", ":::", "1"], "{2} is no place"),
        (&["run", "--", "echo", "{2}"], "{2} is no place"),
        (&["run", "--", "echo", "{0}", ":::", "1"], "{0} is no place"),
        (&["run", "--", "echo", ":::"], "no arguments after a :::"),
        (
            &["run", "--", "echo", ":::", "1", ":::+", "2"],
            "not supported",
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
fn an_unreadable_list_names_itself() {
    // Root reads everything, but not this: reading it fails.
    let text = stderr(&mut exitring(["run", "/proc/self/mem"]));
    assert!(text.contains("cannot read /proc/self/mem"), "{text}");
    assert_eq!(code(&mut exitring(["run", "/proc/self/mem"])), Some(2));
}

#[test]
fn a_broken_line_fails_and_the_run_goes_on() {
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
fn lists_that_windows_wrote_are_lists() {
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
    // As long as one may be, and one byte more.
    for (length, outcome) in [(131_071, "exited"), (131_072, "not_started")] {
        let list = format!("\u{feff}{}\r\ntrue\r\n", "x".repeat(length));
        let mut run = exitring(["run", "--output", "jsonl", "--", "true"]);
        let jobs = jobs(&stdout(run.write_stdin(list)));
        assert_eq!((jobs.len(), &jobs[0]["outcome"]), (2, &outcome.into()));
    }
}

#[test]
fn the_same_words_do_the_same_with_and_without_a_shells_signs() {
    // The programs of the same names do otherwise.
    for line in [
        "echo --version",
        "printf --version",
        "test a == a",
        "[ a == a ]",
        "pwd --version",
        "kill -L",
    ] {
        let outcome = |line: &str| {
            let mut run = exitring(["run", "-q", "--output", "jsonl"]);
            let text = stdout(run.write_stdin(line));
            let code = jobs(&text)[0]["exit_code"].clone();
            let all = common::records(&text).into_iter();
            let mut lines: Vec<_> = all.map(|record| record["line"].to_string()).collect();
            lines.sort();
            (code, lines)
        };
        assert_eq!(outcome(line), outcome(&format!("{line};")), "{line}");
    }
}

#[test]
fn a_script_without_its_interpreter_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("script");
    std::fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    let output = shell("chmod +x $0; echo $0 | $EXITRING run")
        .args([&script])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("is the interpreter"), "{text}");
}

#[test]
fn what_could_not_be_started_is_always_said_and_has_a_shells_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("noexec"), "").unwrap();
    std::fs::write(dir.path().join("script"), "#!/no/such/interpreter\n").unwrap();
    for (line, why, code) in [
        ("no-such-command-here x", "no such program", 127),
        ("./nodir/x", "no such program", 127),
        ("./noexec x", "may not be executed", 126),
        ("./script", "is the interpreter", 126),
        ("true \0", "NUL", 126),
    ] {
        for options in [
            "-q",
            "-q --discard",
            "-q --log logs",
            "-q --output jsonl",
            "",
        ] {
            let script = format!(
                "chmod +x script; $EXITRING run --joblog log {options}; echo $? >> code; mv log done"
            );
            let output = shell(&script)
                .current_dir(dir.path())
                .write_stdin(format!("{line}\n"))
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stderr);
            let said = text
                .lines()
                .filter(|line| line.starts_with("job 1 was not started: "));
            let said: Vec<_> = said.collect();
            assert!(said.len() == 1 && said[0].contains(why), "{line}: {text}");
            let log = std::fs::read_to_string(dir.path().join("done")).unwrap();
            let mut records = jobs(&log);
            if options.contains("jsonl") {
                records.extend(jobs(&String::from_utf8_lossy(&output.stdout)));
            }
            for record in &records {
                assert_eq!(
                    (&record["outcome"], &record["exit_code"]),
                    (&"not_started".into(), &code.into())
                );
            }
            let summary = format!("job 1: not started (exit code {code}): ");
            assert_eq!(text.contains(&summary), options.is_empty(), "{text}");
        }
    }
    let codes = std::fs::read_to_string(dir.path().join("code")).unwrap();
    assert!(codes.lines().all(|code| code == "1"), "{codes}");
}

#[test]
fn templates_are_filled_from_the_command_line() {
    let output = stdout(&mut exitring([
        "run", "-j1", "--", "echo", "{2}-{1}", "{#}", ":::", "a", "b c", ":::", "x", "y",
    ]));
    assert_eq!(output, "x-a 1\ny-a 2\nx-b c 3\ny-b c 4\n");
    let output = stdout(&mut exitring([
        "run", "-j1", "--", "echo", "-n", ":::", "a;b", "$HOME",
    ]));
    assert_eq!(output, "a;b\n$HOME\n", "no shell, and a line gets its end");
}

#[test]
fn templates_are_filled_from_lines() {
    let output = stdout(exitring(["run", "-j1", "--", "echo", "<{}>"]).write_stdin("a\n\n'b' c\n"));
    assert_eq!(output, "<a>\n<>\n<'b' c>\n");
}

#[test]
fn records_of_templates_have_the_command_as_one_would_type_it() {
    let output = stdout(&mut exitring([
        "run",
        "--output",
        "jsonl",
        "--discard",
        "--",
        "echo",
        "{}",
        ":::",
        "a b",
    ]));
    assert_eq!(jobs(&output)[0]["command"], "echo 'a b'");
}

#[test]
fn lines_are_for_a_shell_where_they_need_one() {
    let list = "X=1; echo $X\necho 'a  b'\necho a  b\ncd / && pwd\numask\n";
    let output = stdout(exitring(["run", "-j1"]).write_stdin(list));
    assert_eq!(
        output.lines().take(4).collect::<Vec<_>>(),
        ["1", "a  b", "a b", "/"]
    );
    let output = stdout(exitring(["run", "-j1", "--no-shell"]).write_stdin("echo 'a  b' $X *\n"));
    assert_eq!(output, "a  b $X *\n");
    let output = stdout(
        exitring(["run", "-j1", "--shell", "bash"]).write_stdin("echo ${BASH_VERSION:+yes}\n"),
    );
    assert_eq!(output, "yes\n");
}

#[test]
fn a_script_that_names_no_interpreter_is_the_shells() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("script");
    std::fs::write(&script, "echo by a shell\n").unwrap();
    let output = shell("chmod +x $0; echo $0 | $EXITRING run")
        .args([&script])
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"by a shell\n", "{output:?}");
}

#[test]
fn jobs_read_nothing_and_lead_groups_of_their_own() {
    let list = "cat\nread x || echo nothing\nps -o pgid= $$ | grep -qw $$ && echo leads\n";
    let output = stdout(exitring(["run", "-j1"]).write_stdin(list));
    assert_eq!(output, "nothing\nleads\n");
}

#[test]
fn failed_jobs_are_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let tries = dir.path().join("tries");
    // The third time is lucky.
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
fn after_a_failure_nothing_more_is_started_if_so_asked() {
    let list = format!("sleep 0.3\nfalse\n{}", "true\n".repeat(5000));
    let output = stdout(
        exitring(["run", "-j", "2", "--fail-fast", "--output", "jsonl"]).write_stdin(list.clone()),
    );
    let soon = jobs(&output);
    assert!(soon.len() < 5002, "{}", soon.len());
    assert_eq!(soon[0]["success"], true, "what ran went on: {}", soon[0]);

    let list = list.replace("sleep 0.3", "sleep 1000");
    let output = stdout(
        exitring(["run", "-j", "2", "--fail-fast=now", "--output", "jsonl"]).write_stdin(list),
    );
    let now = jobs(&output);
    assert_eq!(now[0]["interrupted"], true, "{}", now[0]);
}

#[test]
fn a_list_is_run_as_it_comes_and_may_never_end() {
    // The second line comes when the first job has run, and what brings it never closes the pipe before.
    let dir = tempfile::tempdir().unwrap();
    let script = "cd $0; (echo touch a; until [ -e a ]; do sleep 0.01; done; echo touch b) | $EXITRING run && ls";
    let output = shell(script).args([dir.path()]).output().unwrap();
    assert_eq!(output.stdout, b"a\nb\n", "{output:?}");
}

#[test]
fn closed_standard_streams_are_no_crash() {
    let output = shell("$EXITRING run <&-; echo $?; echo true | $EXITRING run >&- 2>&-; echo $?")
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"0\n0\n", "{output:?}");
}
