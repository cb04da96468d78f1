//! `exitring submit`.

use std::fmt::Write as _;

use crate::common::{code, numbers, stderr, wait_until};
use crate::server::Server;

fn list(jobs: u64, command: impl Fn(u64) -> String) -> String {
    let mut text = String::new();
    for job in 1..=jobs {
        let _ = writeln!(text, "{}", command(job));
    }
    text
}

#[test]
fn a_list_that_is_submitted_twice_runs_once() {
    let Some(server) = Server::start() else {
        return;
    };
    let out = server.dir.path().join("out");
    let jobs = list(50, |job| format!("echo {job} >> {}", out.display()));
    server.submit("r", &[], &jobs);
    let again = stderr(server.command("submit", "r", &[]).write_stdin(jobs));
    assert!(
        again.contains("0 jobs submitted") && again.contains("50 of 50"),
        "{again}"
    );
    assert_eq!(code(&mut server.command("run", "r", &["-j4"])), Some(0));
    assert_eq!(numbers(&out), (1..=50).collect::<Vec<_>>());
    assert_eq!(server.status("r")["done"], 50);
}

#[test]
fn a_submission_that_was_killed_continues_and_each_job_is_there_once() {
    let Some(server) = Server::start() else {
        return;
    };
    const JOBS: u64 = 200_000;
    let path = server.file("list", &list(JOBS, |job| format!("true {job}")));
    let mut killed_in_the_middle = false;
    // The kill may come too early or too late.
    for attempt in 0..10 {
        let run = format!("r{attempt}");
        let url = server.url(&run);
        let words = ["submit", "-q", "--queue", &url, &path];
        let mut child = crate::common::std_exitring(words).spawn().expect("starts");
        let mut submitted = 0;
        wait_until("the first jobs", || {
            submitted = server.status(&run)["submitted"].as_u64().unwrap_or(0);
            submitted > 0 || child.try_wait().expect("a child").is_some()
        });
        child.kill().expect("a child");
        child.wait().expect("a child");
        submitted = server.status(&run)["submitted"].as_u64().unwrap_or(0);
        let again = stderr(&mut server.command("submit", &run, &[&path]));
        let status = server.status(&run);
        assert_eq!(
            (&status["submitted"], &status["jobs"]),
            (&JOBS.into(), &JOBS.into()),
            "{again}"
        );
        if 0 < submitted && submitted < JOBS {
            let added = format!("{} jobs submitted", JOBS - submitted);
            assert!(again.contains(&added), "{again}");
            killed_in_the_middle = true;
            break;
        }
    }
    assert!(
        killed_in_the_middle,
        "no submission was killed in the middle"
    );
}

#[test]
fn processes_that_submit_the_same_list_at_a_time_store_each_job_once() {
    let Some(server) = Server::start() else {
        return;
    };
    let out = server.dir.path().join("out");
    let path = server.file(
        "list",
        &list(600, |job| format!("echo {job} >> {}", out.display())),
    );
    let url = server.url("r");
    let mut submit = crate::common::std_exitring(["submit", "-q", "--queue", &url, &path]);
    let mut children: Vec<_> = (0..4).map(|_| submit.spawn().expect("starts")).collect();
    for child in &mut children {
        assert!(child.wait().expect("a child").success());
    }
    assert_eq!(code(&mut server.command("run", "r", &["-j4"])), Some(0));
    assert_eq!(numbers(&out), (1..=600).collect::<Vec<_>>());
}

#[test]
fn another_list_and_other_options_are_refused() {
    let Some(server) = Server::start() else {
        return;
    };
    server.submit("r", &["--timeout", "9"], "true\nfalse\n");
    let refused = |options: &[&str], list: &'static str| {
        let mut command = server.command("submit", "r", options);
        command.write_stdin(list);
        assert_eq!(code(&mut command), Some(2));
        stderr(&mut command)
    };
    let other = refused(&["--timeout", "9"], "true\ntrue\n");
    assert!(other.contains("another list (2 jobs"), "{other}");
    let longer = refused(&["--timeout", "9"], "true\nfalse\ntrue\n");
    assert!(longer.contains("another list"), "{longer}");
    let options = refused(&["--retries", "1"], "true\nfalse\n");
    assert!(options.contains("--timeout, --retries"), "{options}");
    assert!(options.contains("queue delete"), "{options}");
    assert_eq!(server.status("r")["submitted"], 2);
}

#[test]
fn the_options_of_the_run_apply_on_the_worker() {
    let Some(server) = Server::start() else {
        return;
    };
    let cwd = server.dir.path().join("work");
    std::fs::create_dir(&cwd).expect("writable");
    let cwd = cwd.display().to_string();
    let options = [
        "--cwd",
        &cwd,
        "--env",
        "A=b c",
        "--env",
        "FROM_HERE",
        "--retries",
        "1",
        "--timeout",
        "30",
    ];
    let list = server.file(
        "list",
        "pwd\necho \"$A $FROM_HERE\"\ntest -e there || { touch there; exit 1; }\nexec sleep 100 #exitring: weight=2\n",
    );
    let mut submit = server.command("submit", "r", &options);
    submit.env("FROM_HERE", "value").arg(&list);
    assert_eq!(code(&mut submit), Some(0));
    // A run of its own for the timeout.
    server.submit(
        "t",
        &["--timeout", "300ms", "--grace", "100ms"],
        "sleep 100\n",
    );
    assert_eq!(code(&mut server.command("run", "t", &[])), Some(1));
    assert_eq!(server.records("t")[0]["timed_out"], true);
    let mut worker = server.worker("r", &["-j2"]);
    wait_until("three results", || server.status("r")["done"] == 3);
    assert_eq!(code(&mut server.command("queue cancel", "r", &[])), Some(0));
    worker.end();
    let mut records = server.records("r");
    records.sort_by_key(|record| record["job"].as_u64());
    assert_eq!(records[0]["stdout"], format!("{cwd}\n"));
    assert_eq!(records[1]["stdout"], "b c value\n");
    assert_eq!(
        (&records[2]["attempts"], &records[2]["flaky"]),
        (&2.into(), &true.into())
    );
}

#[test]
fn templates_keep_their_words_names_and_slots() {
    let Some(server) = Server::start() else {
        return;
    };
    let template = [
        "--stdin",
        "arg",
        "--",
        "sh",
        "-c",
        "cat; echo \"$1\" {%}",
        "sh",
        "<{}>",
        ":::",
        "a b",
        "\u{e4}",
    ];
    assert_eq!(code(&mut server.command("submit", "r", &template)), Some(0));
    assert_eq!(code(&mut server.command("run", "r", &["-j1"])), Some(0));
    let mut records = server.records("r");
    records.sort_by_key(|record| record["job"].as_u64());
    assert_eq!(records[0]["stdout"], "a b\n<a b> 1\n");
    assert_eq!(records[1]["stdout"], "\u{e4}\n<\u{e4}> 1\n");
    assert_eq!(records[0]["name"], "a b");
}
