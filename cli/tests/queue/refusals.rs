//! Bad input, and servers that cannot have a queue.

use std::net::TcpListener;

use crate::common::{Started, code, exitring, std_exitring, stderr};
use crate::server::{Server, without_login};

#[test]
fn invalid_addresses_are_named() {
    for (url, why) in [
        ("host/r", "nats:// or tls://"),
        ("nats://host", "name of the run"),
        ("nats://host/a.b", "letters, digits"),
        ("nats://host:99999/r", "port"),
    ] {
        for subcommand in ["submit", "run", "results"] {
            let mut command = without_login(exitring([subcommand, "--queue", url]));
            command.write_stdin("true\n");
            assert_eq!(code(&mut command), Some(2), "{subcommand} {url}");
            let text = stderr(&mut command);
            assert!(text.contains(why) && text.contains("remedy:"), "{text}");
        }
    }
}

#[test]
fn a_server_that_is_not_there_or_does_not_answer_is_an_error() {
    // It accepts connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = silent.local_addr().expect("bound");
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("bound")
    };
    for (address, name) in [(silent, ""), (closed, "refused")] {
        let url = format!("nats://{address}/r");
        let mut command = without_login(exitring(["queue", "status", "--queue", &url]));
        assert_eq!(code(&mut command), Some(3));
        let text = stderr(&mut command);
        assert!(
            text.contains("cannot connect") && text.contains(name),
            "{text}"
        );
        assert!(text.contains("remedy:"), "{text}");
    }
}

#[test]
fn ctrl_c_ends_a_connection_attempt() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("nats://{}/r", silent.local_addr().expect("bound"));
    for subcommand in ["run", "results"] {
        let mut child = Started::new(&mut std_exitring([subcommand, "--queue", &url]));
        // It is connected: no reply will come.
        let (_connection, _) = silent.accept().expect("a connection");
        crate::common::signal(&child.0, libc::SIGINT);
        assert_eq!(child.code(), Some(130), "{subcommand}");
    }
}

#[test]
fn a_server_without_jetstream_is_an_error() {
    let Some(server) = Server::with("") else {
        return;
    };
    for subcommand in [
        "submit",
        "run",
        "results",
        "queue status",
        "queue cancel",
        "queue delete",
    ] {
        let mut command = server.command(subcommand, "r", &[]);
        command.write_stdin("true\n");
        assert_eq!(code(&mut command), Some(2), "{subcommand}");
        let text = stderr(&mut command);
        assert!(
            text.contains("has no JetStream") && text.contains("-js"),
            "{text}"
        );
    }
}

#[test]
fn missing_permissions_are_named() {
    let config = "jetstream { store_dir: STORE }
authorization {
  users: [
    { user: none, password: x, permissions: { publish: [\"nothing\"], subscribe: [\"_INBOX.>\"] } }
    { user: reader, password: x, permissions: { publish: [\"$JS.API.>\"], subscribe: [\"_INBOX.>\"] } }
    { user: all, password: x }
  ]
}";
    let Some(server) = Server::with(config) else {
        return;
    };
    let list = server.file("list", "true\n");
    let url = |user| format!("nats://{user}:x@{}/r", server.host());
    let mut command = without_login(exitring(["submit", "--queue", &url("none"), &list]));
    assert_eq!(code(&mut command), Some(2));
    let text = stderr(&mut command);
    assert!(
        text.contains("denies") && text.contains("$JS.API.STREAM.CREATE"),
        "{text}"
    );
    assert!(text.contains("the user needs publish on"), "{text}");
    let mut command = without_login(exitring(["submit", "--queue", &url("reader"), &list]));
    assert_eq!(code(&mut command), Some(2));
    let text = stderr(&mut command);
    assert!(
        text.contains("denies") && text.contains("exitring.r.state.spec"),
        "{text}"
    );
    let mut command = without_login(exitring(["submit", "--queue", &url("all"), &list]));
    assert_eq!(code(&mut command), Some(0));
    // It may take jobs, and not store results.
    let mut command = without_login(exitring(["run", "-q", "--queue", &url("reader")]));
    assert_eq!(code(&mut command), Some(2));
    let text = stderr(&mut command);
    assert!(
        text.contains("denies") && text.contains("exitring.r."),
        "{text}"
    );
    let mut command = without_login(exitring(["run", "-q", "--queue", &url("all")]));
    assert_eq!(code(&mut command), Some(0));
}

#[test]
fn a_server_without_room_is_an_error_and_nothing_is_lost() {
    let config = "jetstream { store_dir: STORE, max_file_store: 300KB, max_memory_store: 1MB }";
    let Some(server) = Server::with(config) else {
        return;
    };
    let list = server.file("list", &format!("true {}\n", "x".repeat(900)).repeat(1000));
    let mut command = server.command("submit", "r", &[&list]);
    assert_eq!(code(&mut command), Some(3));
    let text = stderr(&mut command);
    assert!(
        text.contains("no room") && text.contains("of 1000 are stored"),
        "{text}"
    );
}

#[test]
fn invalid_lists_are_refused_before_anything_is_submitted() {
    let Some(server) = Server::with("jetstream { store_dir: STORE }\nmax_payload: 4096") else {
        return;
    };
    let large = format!("true\ntrue {}\n", "x".repeat(5000));
    for (list, code_wanted, why) in [
        ("", 2, "no jobs"),
        (large.as_str(), 2, "job 2 has"),
        (
            "true\ntrue a #exitring: weight=0\n",
            2,
            "job 2 of the list is invalid",
        ),
    ] {
        let mut command = server.command("submit", "r", &[]);
        command.write_stdin(list);
        assert_eq!(code(&mut command), Some(code_wanted), "{why}");
        let text = stderr(&mut command);
        assert!(text.contains(why) && text.contains("remedy:"), "{text}");
    }
    assert_eq!(code(&mut server.command("queue status", "r", &[])), Some(2));
}

#[test]
fn a_clock_that_is_an_hour_off_changes_nothing() {
    let Some(server) = Server::start() else {
        return;
    };
    let faketime = std::process::Command::new("faketime")
        .args(["-f", "+1h", "true"])
        .output();
    if !faketime.is_ok_and(|output| output.status.success()) {
        println!("not tested: there is no faketime");
        return;
    }
    server.submit("r", &[], "true\ntrue\n");
    let url = server.url("r");
    let mut run = std::process::Command::new("faketime");
    run.args(["-f", "+1h", crate::common::EXITRING, "run", "--queue", &url]);
    assert!(run.status().expect("runs").success());
    let mut status = std::process::Command::new("faketime");
    status.args([
        "-f",
        "-1h",
        crate::common::EXITRING,
        "queue",
        "status",
        "--json",
        "--queue",
        &url,
    ]);
    let output = status.output().expect("runs");
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let seen = status["workers"][0]["last_seen_seconds"]
        .as_f64()
        .expect("a number");
    assert!((0.0..600.0).contains(&seen), "{status}");
}
