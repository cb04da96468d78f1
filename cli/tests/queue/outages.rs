//! A server that goes away.

use crate::common::{code, numbers, wait_until};
use crate::server::Server;

#[test]
fn results_of_an_outage_are_stored_when_the_server_is_back() {
    let Some(mut server) = Server::start() else {
        return;
    };
    let (out, go) = (server.dir.path().join("out"), server.dir.path().join("go"));
    let jobs: String = (1..=8)
        .map(|job| {
            let (out, go) = (out.display(), go.display());
            format!("until test -e {go}; do sleep 0.02; done; echo {job} >> {out}\n")
        })
        .collect();
    server.submit("r", &[], &jobs);
    let mut worker = server.worker("r", &["-j2"]);
    wait_until("two jobs", || server.status("r")["taken"] == 2);
    server.kill();
    wait_until("the report", || worker.errors().contains("is lost"));
    std::fs::write(&go, "").expect("writable");
    // What runs goes on, and nothing new starts.
    wait_until("two ends", || numbers(&out).len() == 2);
    server.start_again();
    assert_eq!(worker.end(), Some(0));
    assert!(worker.errors().contains("again"), "{}", worker.errors());
    assert_eq!(numbers(&out), (1..=8).collect::<Vec<_>>());
    let records = server.records("r");
    assert_eq!(records.len(), 8);
    assert!(records.iter().all(|record| record["accepted"] == true));
}

#[test]
fn a_run_goes_on_when_the_server_is_killed_again_and_again() {
    let Some(mut server) = Server::start() else {
        return;
    };
    server.submit("r", &["--lease", "2s"], &"sleep 0.01\n".repeat(600));
    let mut workers = [server.worker("r", &["-j2"]), server.worker("r", &["-j2"])];
    for done in [50, 150, 250] {
        wait_until("some results", || {
            server.status("r")["done"].as_u64() >= Some(done)
        });
        server.kill();
        server.start_again();
    }
    for worker in &mut workers {
        assert_eq!(worker.end(), Some(0));
    }
    let records = server.records("r");
    let accepted = records.iter().filter(|record| record["accepted"] == true);
    assert_eq!(accepted.count(), 600);
    assert_eq!(code(&mut server.command("results", "r", &[])), Some(0));
}

#[test]
fn a_worker_without_a_server_can_be_interrupted() {
    let Some(mut server) = Server::start() else {
        return;
    };
    server.submit("r", &["--grace", "100ms"], "sleep 100\n");
    let mut worker = server.worker("r", &[]);
    wait_until("a job", || server.status("r")["taken"] == 1);
    server.kill();
    wait_until("the report", || worker.errors().contains("is lost"));
    worker.signal(libc::SIGINT);
    assert_eq!(worker.end(), Some(130));
}

#[test]
fn a_deleted_run_ends_its_workers() {
    let Some(server) = Server::start() else {
        return;
    };
    server.submit("r", &["--grace", "100ms"], "sleep 100\n");
    let mut worker = server.worker("r", &["-j2"]);
    wait_until("a job", || server.status("r")["taken"] == 1);
    assert_eq!(code(&mut server.command("queue delete", "r", &[])), Some(0));
    assert_eq!(worker.end(), Some(2));
    assert!(
        worker.errors().contains("there is no run r"),
        "{}",
        worker.errors()
    );
    assert_eq!(code(&mut server.command("queue delete", "r", &[])), Some(2));
}

#[test]
fn nothing_starts_while_the_server_hangs_and_the_worker_can_be_interrupted() {
    let Some(server) = Server::start() else {
        return;
    };
    let path = |name: &str| server.dir.path().join(name);
    let (go, ended, second) = (path("go"), path("ended"), path("second"));
    let jobs = format!(
        "until test -e {}; do sleep 0.02; done; touch {} #exitring: group=a\ntouch {} #exitring: group=a\n",
        go.display(),
        ended.display(),
        second.display()
    );
    server.submit("r", &["--lease", "1s", "--grace", "100ms"], &jobs);
    let mut worker = server.worker("r", &["-j2"]);
    wait_until("both jobs", || server.status("r")["taken"] == 2);
    // The connection stays, and nothing comes.
    server.signal(libc::SIGSTOP);
    wait_until("the report", || {
        worker.errors().contains("does not answer renewals")
    });
    std::fs::write(&go, "").expect("writable");
    wait_until("the end of the first job", || ended.exists());
    worker.signal(libc::SIGTERM);
    assert_eq!(worker.end(), Some(130));
    assert!(!second.exists());
}

#[test]
fn a_worker_that_waits_for_its_run_outlives_the_server() {
    let Some(mut server) = Server::with("jetstream { store_dir: STORE }\ntrace: true") else {
        return;
    };
    let mut worker = server.worker("r", &["--wait"]);
    let log = server.dir.path().join("log");
    wait_until("a request of the worker", || {
        std::fs::read_to_string(&log).is_ok_and(|log| log.contains("MSG.GET.exitring-r"))
    });
    server.kill();
    // Longer than a request waits for its answer.
    std::thread::sleep(std::time::Duration::from_secs(7));
    server.start_again();
    server.submit("r", &[], "true\n");
    assert_eq!(worker.end(), Some(0));
}
