//! Logins and TLS.

use crate::common::{code, exitring, stderr};
use crate::secured_server::with_tls;
use crate::server::{Server, without_login};

const USERS: &str = "jetstream { store_dir: STORE }
authorization { users: [ { user: me, password: \"s3cret/@\" } ] }";

#[test]
fn users_log_in_by_the_address_or_the_environment_and_no_password_is_printed() {
    let Some(server) = Server::with(USERS) else {
        return;
    };
    let list = server.file("list", "true\n");
    let url = format!("nats://me:s3cret%2F%40@{}/r", server.host());
    let mut submit = without_login(exitring(["submit", "--queue", &url, &list]));
    assert_eq!(code(&mut submit), Some(0));
    assert!(!stderr(&mut submit).contains("s3cret"));
    let mut run = server.command("run", "r", &[]);
    run.env("NATS_USER", "me").env("NATS_PASSWORD", "s3cret/@");
    assert_eq!(code(&mut run), Some(0));
    for url in [
        server.url("r"),
        format!("nats://me:wrongs3cret@{}/r", server.host()),
        format!("nats://tokens3cret@{}/r", server.host()),
    ] {
        for words in [
            ["submit", "--queue", &url, &list],
            ["run", "--queue", &url, "-q"],
        ] {
            let mut command = without_login(exitring(words));
            assert_eq!(code(&mut command), Some(2));
            let text = stderr(&mut command);
            assert!(
                text.contains("refuses the login") && text.contains("NATS_USER"),
                "{text}"
            );
            assert!(!text.contains("s3cret"), "{text}");
        }
    }
}

#[test]
fn variables_and_the_directory_of_the_run_do_not_change_how_a_worker_logs_in() {
    let Some(server) = Server::with(USERS) else {
        return;
    };
    let cwd = server.dir.path().display().to_string();
    let list = server.file("list", "echo $NATS_USER; pwd\n");
    let options = ["--env", "NATS_USER=another", "--cwd", &cwd, &list];
    for subcommand in ["submit", "run"] {
        let options = match subcommand {
            "submit" => &options[..],
            _ => &["-q"],
        };
        let mut command = server.command(subcommand, "r", options);
        command
            .env("NATS_USER", "me")
            .env("NATS_PASSWORD", "s3cret/@");
        assert_eq!(code(&mut command), Some(0), "{}", stderr(&mut command));
    }
    let mut results = server.command("results", "r", &[]);
    results
        .env("NATS_USER", "me")
        .env("NATS_PASSWORD", "s3cret/@");
    assert_eq!(
        crate::common::stdout(&mut results),
        format!("another\n{cwd}\n")
    );
}

#[test]
fn tls_needs_a_certificate_that_is_trusted() {
    let dir = tempfile::tempdir().expect("a directory");
    let Some(server) = with_tls(dir.path()) else {
        return;
    };
    let path = |name: &str| dir.path().join(name).display().to_string();
    let cert = path("ca.pem");
    let url = format!("tls://{}/r", server.host());
    let list = server.file("list", "true\n");
    let mut trusted = without_login(exitring(["submit", "--queue", &url, "--ca", &cert, &list]));
    assert_eq!(code(&mut trusted), Some(0), "{}", stderr(&mut trusted));
    // A relative path is one of the directory in which the worker was started.
    let (url_of_cwd, cwd) = (format!("tls://{}/cwd", server.host()), "/");
    let words = [
        "submit",
        "--queue",
        &url_of_cwd,
        "--ca",
        &cert,
        "--cwd",
        cwd,
        &list,
    ];
    assert_eq!(code(&mut without_login(exitring(words))), Some(0));
    let mut relative = without_login(exitring(["run", "--queue", &url_of_cwd, "--ca", "ca.pem"]));
    relative.current_dir(dir.path());
    assert_eq!(code(&mut relative), Some(0), "{}", stderr(&mut relative));
    let mut unknown = without_login(exitring(["submit", "--queue", &url, &list]));
    assert_eq!(code(&mut unknown), Some(3));
    assert!(
        stderr(&mut unknown).contains("--ca"),
        "{}",
        stderr(&mut unknown)
    );
    for (ca, reason) in [
        (path("none"), "No such file"),
        (list.clone(), "no certificate"),
    ] {
        let mut invalid = without_login(exitring(["submit", "--queue", &url, "--ca", &ca, &list]));
        assert_eq!(code(&mut invalid), Some(2));
        assert!(
            stderr(&mut invalid).contains(reason),
            "{}",
            stderr(&mut invalid)
        );
    }
    let none = path("none");
    let mut invalid = without_login(exitring([
        "submit", "--queue", &url, "--creds", &none, &list,
    ]));
    assert_eq!(code(&mut invalid), Some(2));
    assert!(stderr(&mut invalid).contains("cannot read the credentials"));
}

/// The configuration in docs/CLUSTER.md, with a user for each role.
fn documented_permissions() -> &'static str {
    let text = include_str!("../../../docs/CLUSTER.md");
    let mut blocks = text.split("```conf\n").skip(1);
    let block = blocks.find(|block| block.contains("permissions:"));
    let end = |block: &'static str| block.split("```").next();
    block.and_then(end).expect("it is documented")
}

#[test]
fn the_documented_permissions_suffice_for_each_role_and_allow_no_other() {
    // Without a login everything is allowed.
    let users = "users: [\n{ user: admin, password: e }\n";
    let permissions = documented_permissions().replacen("users: [", users, 1);
    let config = format!("jetstream {{ store_dir: STORE }}\nno_auth_user: admin\n{permissions}");
    let Some(server) = Server::with(&config) else {
        return;
    };
    let list = server.file("list", "echo a\nexit 3\n");
    let exit_code = |user: &str, words: &[&str]| {
        let mut command = server.command(words[0], "nightly", &words[1..]);
        let password = match user {
            "submitter" => "a",
            "worker" => "b",
            "reader" => "c",
            _ => "d",
        };
        command
            .env("NATS_USER", user)
            .env("NATS_PASSWORD", password);
        let output = command.output().expect("runs");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let denied = text.contains("the server denies permission");
        assert!(
            denied || !text.to_lowercase().contains("permission"),
            "{text}"
        );
        (output.status.code(), denied)
    };
    let (allowed, denied) = (|code| (Some(code), false), (Some(2), true));
    for user in ["worker", "reader", "operator"] {
        assert_eq!(exit_code(user, &["submit", &list]), denied, "{user}");
    }
    assert_eq!(exit_code("submitter", &["submit", &list]), allowed(0));
    for user in ["submitter", "reader", "operator"] {
        assert_eq!(exit_code(user, &["run"]), denied, "{user}");
    }
    let logs = server.dir.path().join("logs").display().to_string();
    assert_eq!(exit_code("worker", &["run", "--log", "nats"]), allowed(1));
    // Again, with results.
    assert_eq!(exit_code("submitter", &["submit", &list]), allowed(0));
    for user in ["submitter", "worker", "operator"] {
        assert_eq!(exit_code(user, &["results"]), denied, "{user}");
    }
    let follow = ["results", "--follow", "--logs", &logs];
    assert_eq!(exit_code("reader", &follow), allowed(1));
    let log = std::fs::read_to_string(format!("{logs}/1.out"));
    assert_eq!(log.expect("a log"), "a\n");
    assert_eq!(exit_code("reader", &["queue status"]), allowed(0));
    // The server loses a record.
    let filter = format!("exitring.nightly.record.{}.1", server.id("nightly"));
    let request = serde_json::json!({ "filter": filter }).to_string();
    server.publish("$JS.API.STREAM.PURGE.exitring-nightly-records", &request);
    assert_eq!(exit_code("worker", &["run"]), allowed(3));
    assert_eq!(exit_code("submitter", &["submit", &list]), allowed(0));
    assert_eq!(exit_code("worker", &["run"]), allowed(0));
    for user in ["submitter", "worker", "reader"] {
        assert_eq!(exit_code(user, &["queue cancel"]), denied, "{user}");
        assert_eq!(exit_code(user, &["queue delete"]), denied, "{user}");
    }
    assert_eq!(exit_code("operator", &["queue cancel"]), allowed(0));
    assert_eq!(exit_code("operator", &["queue delete"]), allowed(0));
}
