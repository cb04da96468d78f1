//! `--log nats` and `results --logs`.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::common::{code, stderr, wait_until};
use crate::server::Server;

/// Writes the logs of accepted results to a directory. Returns it, and standard error.
fn download(server: &Server, codes: i32) -> (PathBuf, String) {
    let dir = server.dir.path().join("logs");
    let shown = dir.display().to_string();
    let mut results = server.command("results", "r", &["--logs", &shown, "--output", "jsonl"]);
    assert_eq!(code(&mut results), Some(codes));
    (dir, stderr(&mut results))
}

/// The stream of the bucket, in the store of the server.
fn bucket(server: &Server) -> PathBuf {
    let streams = server.dir.path().join("store/jetstream/$G/streams");
    streams.join("OBJ_exitring-r")
}

#[test]
fn whole_logs_are_stored_and_deleted_with_the_run() {
    let Some(server) = Server::start() else {
        return;
    };
    // Longer than a message may be, and than what a record has.
    let long = "seq 1 300000; echo wrong >&2; exit 3\n";
    let last = "test $EXITRING_ATTEMPT = 2 && echo second || { echo first; false; }\n";
    let jobs = [long, "true\n", last, "head -c 1000 /dev/zero\n"].concat();
    server.submit("r", &["--retries", "1"], &jobs);
    let mut run = server.command("run", "r", &["-q", "--log", "nats"]);
    assert_eq!(code(&mut run), Some(1));
    let (dir, _) = download(&server, 1);
    let read = |name: &str| fs::read(dir.join(name)).ok();
    let numbers: String = (1..=300_000).map(|number| format!("{number}\n")).collect();
    assert!(read("1.out") == Some(numbers.into_bytes()));
    assert_eq!(read("1.err").as_deref(), Some(&b"wrong\n"[..]));
    assert_eq!((read("2.out"), read("2.err")), (None, None));
    assert_eq!(read("3.out").as_deref(), Some(&b"second\n"[..]));
    assert_eq!(read("4.out"), Some(vec![0; 1000]));
    let records = server.records("r");
    let first = records.iter().find(|record| record["job"] == 1);
    let first = first.expect("a record");
    assert_eq!(first["log"]["stderr_bytes"], 6);
    assert!(
        first["stdout"]
            .as_str()
            .expect("a text")
            .ends_with("\n300000\n")
    );
    assert!(bucket(&server).exists());
    assert_eq!(code(&mut server.command("queue delete", "r", &[])), Some(0));
    assert!(!bucket(&server).exists());
}

#[test]
fn the_log_of_an_execution_that_does_not_count_does_not_replace_the_other_one() {
    let Some(server) = Server::start() else {
        return;
    };
    let path = |name: &str| server.dir.path().join(name);
    let (first, second) = (path("first"), path("second"));
    // The first process that runs the job waits for the second.
    let job = format!(
        "mkdir {0} && exec sh -c 'until test -e {1}; do sleep 0.05; done; echo first' || echo second\n",
        first.display(),
        second.display()
    );
    server.submit("r", &["--lease", "1s"], &job);
    let mut stopped = server.worker("r", &["--log", "nats"]);
    wait_until("the first run of the job", || first.exists());
    stopped.signal(libc::SIGSTOP);
    let mut other = server.command("run", "r", &["--log", "nats"]);
    assert_eq!(code(&mut other), Some(0));
    fs::write(&second, "").expect("writable");
    stopped.signal(libc::SIGCONT);
    assert_eq!(stopped.end(), Some(0));
    let (dir, _) = download(&server, 0);
    assert_eq!(fs::read(dir.join("1.out")).expect("a log"), b"second\n");
    let records = server.records("r");
    let mut names: Vec<_> = records
        .iter()
        .map(|it| it["log"]["name"].as_str())
        .collect();
    names.dedup();
    assert_eq!(names.len(), records.len(), "{records:?}");
}

#[test]
fn logs_wait_for_a_server_that_is_away() {
    let Some(mut server) = Server::start() else {
        return;
    };
    let path = |name: &str| server.dir.path().join(name);
    let (go, ended) = (path("go"), path("ended"));
    let job = format!(
        "until test -e {}; do sleep 0.02; done; seq 1 100000; touch {}\n",
        go.display(),
        ended.display()
    );
    server.submit("r", &[], &job);
    let mut worker = server.worker("r", &["--log", "nats"]);
    wait_until("the job", || server.status("r")["taken"] == 1);
    server.kill();
    wait_until("the report", || worker.errors().contains("is lost"));
    fs::write(&go, "").expect("writable");
    wait_until("the end of the job", || ended.exists());
    server.start_again();
    assert_eq!(worker.end(), Some(0));
    let (dir, _) = download(&server, 0);
    let log = fs::read_to_string(dir.join("1.out")).expect("a log");
    assert!(log.starts_with("1\n2\n") && log.ends_with("\n100000\n"));
}

#[test]
fn a_record_says_that_the_bucket_has_no_room_for_the_log() {
    let Some(server) = Server::start() else {
        return;
    };
    // As `nats object add exitring-r --max-bucket-size 1MB` does.
    let bucket = serde_json::json!({
        "name": "OBJ_exitring-r", "subjects": ["$O.exitring-r.C.>", "$O.exitring-r.M.>"],
        "retention": "limits", "storage": "file", "discard": "new", "num_replicas": 1,
        "max_msgs": -1, "max_consumers": -1, "max_bytes": 1_000_000,
        "allow_rollup_hdrs": true, "allow_direct": true,
    });
    server.publish("$JS.API.STREAM.CREATE.OBJ_exitring-r", &bucket.to_string());
    wait_until("the bucket", || self::bucket(&server).exists());
    // The second log comes after the rest of the first one was removed.
    let go = server.dir.path().join("go");
    let second = format!(
        "until test -e {}; do sleep 0.02; done; echo small\n",
        go.display()
    );
    let jobs = ["head -c 5000000 /dev/zero | tr '\\0' x\n", &second].concat();
    server.submit("r", &[], &jobs);
    let mut worker = server.worker("r", &["-q", "-j1", "--log", "nats"]);
    wait_until("the first result", || server.status("r")["done"] == 1);
    fs::write(&go, "").expect("writable");
    assert_eq!(worker.end(), Some(0));
    let errors = worker.errors();
    assert!(
        errors.contains("the log of job 1 cannot be stored"),
        "{errors}"
    );
    let (dir, errors) = download(&server, 0);
    assert!(errors.contains("1 jobs have no log"), "{errors}");
    assert!(!dir.join("1.out").exists());
    assert_eq!(fs::read(dir.join("2.out")).expect("a log"), b"small\n");
    let records = server.records("r");
    assert!(
        records[0]["log"]["missing"].is_string(),
        "{:?}",
        records[0]["log"]
    );
    assert_eq!(records[0]["stdout"].as_str().map(str::len), Some(64 * 1024));
    assert_eq!(records[1]["log"]["missing"], Value::Null);
}

#[test]
fn results_without_logs_say_so() {
    let Some(server) = Server::start() else {
        return;
    };
    server.submit("r", &[], "echo a\n");
    assert_eq!(code(&mut server.command("run", "r", &[])), Some(0));
    let (dir, errors) = download(&server, 0);
    assert!(errors.contains("did not have --log nats"), "{errors}");
    assert_eq!(fs::read_dir(dir).expect("a directory").count(), 0);
}
