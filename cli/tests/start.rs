//! How jobs are started: templates, shells, and programs that cannot be executed.

mod common;

use common::{exitring, jobs, shell, stderr, stdout};

#[test]
fn a_builtin_behaves_the_same_with_and_without_special_characters() {
    // The programs of the same names behave differently.
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
fn a_missing_interpreter_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("script");
    std::fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    let output = shell("chmod +x $0; echo $0 | $EXITRING run")
        .args([&script])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("but the interpreter"), "{text}");
}

#[test]
fn a_job_that_cannot_be_started_is_reported_with_the_exit_code_of_a_shell() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("noexec"), "").unwrap();
    std::fs::write(dir.path().join("script"), "#!/no/such/interpreter\n").unwrap();
    for (line, why, code) in [
        ("no-such-command-here x", "no such program", 127),
        ("./nodir/x", "no such program", 127),
        ("./noexec x", "may not be executed", 126),
        ("./script", "but the interpreter", 126),
        ("true \0", "(-0 reads a list from find -print0)", 126),
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
fn a_template_that_a_shell_would_execute_is_reported() {
    let mut run = exitring(["run", "--", "echo {} | wc", ":::", "x"]);
    let text = stderr(&mut run);
    assert!(text.contains("as in: sh -c 'COMMAND {}'"), "{text}");
}

#[test]
fn a_command_without_its_separator_is_reported() {
    for words in [
        "echo {} ::: a",
        "gzip -9 ::: a",
        "-j 2 wc{} ::: a",
        "-P 2 -- wc ::: a",
    ] {
        let mut run = exitring(["run"]);
        let output = run.args(words.split(' ')).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("follow --, as in: exitring run"), "{text}");
        assert!(!text.contains("to pass"), "{text}");
        assert_eq!(output.status.code(), Some(2));
    }
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
fn records_of_templates_quote_the_command_for_a_shell() {
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
fn a_shell_executes_the_lines_that_need_one() {
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
fn a_shell_executes_a_script_without_an_interpreter_line() {
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
fn jobs_have_empty_input_and_lead_their_own_groups() {
    let list = "cat\nread x || echo nothing\nps -o pgid= $$ | grep -qw $$ && echo leads\n";
    let output = stdout(exitring(["run", "-j1"]).write_stdin(list));
    assert_eq!(output, "nothing\nleads\n");
}

#[test]
fn a_script_without_an_interpreter_line_is_executed_as_the_options_say() {
    let dir = tempfile::tempdir().unwrap();
    let run = |options: &str| {
        let script = format!(
            "echo 'echo \"script $*\"' >s; echo 'exit 1' >sh2; chmod +x s sh2; \
             echo './s a; touch made' | $EXITRING run -q {options}"
        );
        let output = shell(&script).current_dir(dir.path()).output().unwrap();
        let made = std::fs::remove_file(dir.path().join("made")).is_ok();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (text, output.status.code(), made)
    };
    assert_eq!(run(""), ("script a\n".into(), Some(0), true));
    // No shell executes the line, and no other one than was asked for.
    assert_eq!(run("--no-shell"), (String::new(), Some(1), false));
    assert_eq!(run("--shell $PWD/sh2"), (String::new(), Some(1), false));
}

#[test]
fn a_shell_named_by_a_relative_path_is_found_from_the_directory_of_the_call() {
    let dir = tempfile::tempdir().unwrap();
    let script = "mkdir d; printf '#!/bin/sh\nexec sh \"$@\"' >mysh; chmod +x mysh; \
                  echo 'basename $PWD' | $EXITRING run -q --shell ./mysh --cwd d";
    let text = stdout(shell(script).current_dir(dir.path()));
    assert_eq!(text, "d\n");
}

#[test]
fn a_job_starts_although_only_comments_follow_it() {
    let dir = tempfile::tempdir().unwrap();
    // The list ends when the job has run.
    let script = "mkfifo done; { printf 'echo >done\n\n# comment\n'; read line <done; } | \
                  timeout 30 $EXITRING run -q";
    shell(script).current_dir(dir.path()).assert().success();
}

#[test]
fn a_list_after_four_colons_is_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    for option in ["--trace", "--junit", "--report", "--append", "--joblog"] {
        for list in ["::: x :::: args", "::::+ args", ":::: args"] {
            let list = list.replace("::::+ args", ":::: args ::::+ args");
            let script = format!(
                "printf 'a\nb\n' >args; $EXITRING run -q {option} args -- echo {{}} {list}"
            );
            let mut run = shell(&script);
            let text = stderr(run.current_dir(dir.path()));
            assert!(
                text.contains("name the same file"),
                "{option} {list}: {text}"
            );
            let args = std::fs::read_to_string(dir.path().join("args")).unwrap();
            assert_eq!(args, "a\nb\n");
        }
    }
}
