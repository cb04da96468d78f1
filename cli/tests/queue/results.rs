//! `exitring results`.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::common::{code, stderr, stdout, wait_until};
use crate::proxy::Proxy;
use crate::server::Server;

#[test]
fn results_are_followed_to_the_end_of_the_run() {
    let Some(server) = Server::start() else {
        return;
    };
    server.submit("r", &[], "echo a\necho b; exit 1\necho c >&2\n");
    let url = server.url("r");
    let joblog = server.dir.path().join("joblog").display().to_string();
    let words = [
        "results", "--queue", &url, "--follow", "--joblog", &joblog, "--output", "jsonl",
    ];
    let mut follow = crate::common::std_exitring(words);
    let follow = follow.stdout(Stdio::piped()).spawn().expect("starts");
    assert_eq!(code(&mut server.command("run", "r", &["-j1"])), Some(1));
    let output = follow.wait_with_output().expect("ends");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let jobs: Vec<_> = crate::common::records(&text)
        .iter()
        .map(|record| record["job"].as_u64())
        .collect();
    assert_eq!(jobs, [Some(1), Some(2), Some(3)]);
    // A run can be resumed from the job log.
    let list = server.file("list", "echo a\necho b; exit 1\necho c >&2\n");
    let mut resumed = crate::common::exitring(["run", "--joblog", &joblog, "--resume", &list]);
    assert_eq!(code(&mut resumed), Some(1));
    assert!(stderr(&mut resumed).contains("3 were done by an earlier run, 1 of them failed"));
    // It has records.
    assert_eq!(
        code(&mut server.command("results", "r", &["--joblog", &joblog])),
        Some(2)
    );
}

#[test]
fn exit_codes_say_whether_all_jobs_succeeded() {
    let Some(server) = Server::start() else {
        return;
    };
    server.submit("good", &[], "true\n");
    server.submit("bad", &[], "false\n");
    assert_eq!(code(&mut server.command("results", "good", &[])), Some(1));
    let none = stderr(&mut server.command("results", "good", &[]));
    assert!(none.contains("1 of 1 have no result"), "{none}");
    assert_eq!(code(&mut server.command("run", "good", &[])), Some(0));
    assert_eq!(code(&mut server.command("run", "bad", &[])), Some(1));
    assert_eq!(code(&mut server.command("results", "good", &[])), Some(0));
    assert_eq!(
        code(&mut server.command("results", "bad", &["--follow"])),
        Some(1)
    );
    assert_eq!(code(&mut server.command("results", "none", &[])), Some(2));
}

#[test]
fn results_are_output_or_a_report() {
    let Some(server) = Server::start() else {
        return;
    };
    server.submit(
        "r",
        &["--retries", "1"],
        "echo '<a>'\necho no >&2; exit 4\n",
    );
    assert_eq!(
        code(&mut server.command("run", "r", &["-q", "-j1"])),
        Some(1)
    );
    let mut human = server.command("results", "r", &[]);
    assert_eq!(stdout(&mut human), "<a>\n");
    assert!(stderr(&mut human).contains("1 succeeded, 1 failed"));
    let junit = stdout(&mut server.command("results", "r", &["--output", "junit"]));
    assert!(
        junit.contains("tests=\"2\"") && junit.contains("failures=\"1\""),
        "{junit}"
    );
    assert!(
        junit.contains("&lt;a&gt;") && junit.contains("exit code 4"),
        "{junit}"
    );
    assert!(junit.contains("classname=\"r\""), "{junit}");
}

#[test]
fn a_follower_outlives_the_server() {
    let Some(mut server) = Server::start() else {
        return;
    };
    let go = server.dir.path().join("go");
    let second = format!("until test -e {}; do sleep 0.05; done", go.display());
    server.submit("r", &[], &format!("true\n{second}\n"));
    let mut worker = server.worker("r", &["-j2"]);
    let url = server.url("r");
    let words = ["results", "--queue", &url, "--follow", "--output", "jsonl"];
    let mut follow = crate::common::std_exitring(words);
    let follow = follow.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut follow = follow.spawn().expect("starts");
    let mut records = BufReader::new(follow.stdout.take().expect("a pipe")).lines();
    let mut next = || records.next().map(|line| line.expect("UTF-8"));
    assert!(next().is_some_and(|record| record.contains("\"job\":1")));
    server.kill();
    server.start_again();
    std::fs::write(&go, "").expect("writable");
    assert!(next().is_some_and(|record| record.contains("\"job\":2")));
    assert_eq!(worker.end(), Some(0));
    let status = follow.wait().expect("a child");
    assert_eq!(status.code(), Some(0));
}

#[test]
fn records_that_the_server_has_lost_are_reported_and_their_jobs_run_again() {
    let Some(server) = Server::start() else {
        return;
    };
    let out = server.dir.path().join("out");
    let jobs: String = (1..=3)
        .map(|job| format!("echo {job} >> {}\n", out.display()))
        .collect();
    server.submit("r", &[], &jobs);
    assert_eq!(code(&mut server.command("run", "r", &["-j1"])), Some(0));
    for job in [1, 3] {
        let filter = format!("exitring.r.record.{}.{job}", server.id("r"));
        let request = serde_json::json!({ "filter": filter }).to_string();
        server.publish("$JS.API.STREAM.PURGE.exitring-r-records", &request);
    }
    for options in [&[][..], &["--follow"]] {
        let mut results = server.command("results", "r", options);
        assert_eq!(code(&mut results), Some(1), "{options:?}");
        let errors = stderr(&mut results);
        assert!(errors.contains("2 of 3 have no result"), "{errors}");
        assert!(errors.contains("records are missing"), "{errors}");
    }
    let mut run = server.command("run", "r", &[]);
    assert_eq!(code(&mut run), Some(3));
    let errors = stderr(&mut run);
    assert!(
        errors.contains("have no result") && errors.contains("submit"),
        "{errors}"
    );
    server.submit("r", &[], &jobs);
    assert_eq!(code(&mut server.command("run", "r", &["-j1"])), Some(0));
    assert_eq!(crate::common::numbers(&out), [1, 1, 2, 3, 3]);
    assert_eq!(code(&mut server.command("results", "r", &[])), Some(0));
}

#[test]
fn messages_that_are_no_records_do_not_hide_the_others() {
    let Some(server) = Server::start() else {
        return;
    };
    server.submit("r", &[], "true\nfalse\n");
    let subject = format!("exitring.r.record.{}.1", server.id("r"));
    assert_eq!(code(&mut server.command("run", "r", &["-j1"])), Some(1));
    for message in ["no JSON", "{}"] {
        server.publish(&subject, message);
    }
    let mut results = server.command("results", "r", &[]);
    assert_eq!(code(&mut results), Some(1));
    let errors = stderr(&mut results);
    assert!(errors.contains("1 succeeded, 1 failed"), "{errors}");
    assert!(errors.contains("2 messages are not records"), "{errors}");
    assert_eq!(server.records("r").len(), 2);
}

#[test]
fn a_follower_misses_no_record_when_its_connection_breaks() {
    let Some(server) = Server::start() else {
        return;
    };
    let go = server.dir.path().join("go");
    let wait = format!("until test -e {}; do sleep 0.02; done\n", go.display());
    server.submit("r", &[], &format!("true\n{}", wait.repeat(4)));
    let proxy = Proxy::start(server.host());
    let url = proxy.url("r");
    let mut follow = crate::common::std_exitring(["results", "--queue", &url, "--follow"]);
    let follow = follow
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut worker = server.worker("r", &["-j5"]);
    // The first record is lost on its way, and the others come on the next connection.
    wait_until("the first record", || proxy.holds());
    proxy.break_connections();
    std::fs::write(&go, "").expect("writable");
    assert_eq!(worker.end(), Some(0));
    let output = follow.wait_with_output().expect("ends");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    assert!(errors.contains("5 succeeded"), "{errors}");
}

#[test]
fn a_follower_ends_when_a_message_is_no_record() {
    let Some(server) = Server::start() else {
        return;
    };
    server.submit("r", &[], "true\nsleep 1000\n");
    let mut worker = server.worker("r", &["-j2"]);
    wait_until("a result", || server.status("r")["done"] == 1);
    let id = server.id("r");
    server.publish(&format!("exitring.r.record.{id}.2"), "nonsense");
    worker.signal(libc::SIGTERM);
    assert_eq!(worker.end(), Some(130));
    let mut follow = server.command("results", "r", &["--follow"]);
    assert!(stderr(&mut follow).contains("1 messages are not records of it"));
}
