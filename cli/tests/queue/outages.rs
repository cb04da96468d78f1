//! A server that goes away.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::common::{code, numbers, wait_until};
use crate::server::Server;

/// Copies the files of a directory.
fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("writable");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("a file");
    }
}

/// Starts a server with a run whose consumer has the state in which nothing was delivered: what a
/// killed server has not written.
fn forget_deliveries(server: &mut Server, submitted: &Path) {
    let state = server.consumer_state("r", &server.id("r"));
    server.kill();
    fs::remove_dir_all(&state).expect("it exists");
    copy_files(submitted, &state);
    server.start_again();
}

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
        std::fs::read_to_string(&log).is_ok_and(|log| log.contains("MSG.GET.exitring-r-state"))
    });
    server.kill();
    // Longer than a request waits for its answer.
    std::thread::sleep(std::time::Duration::from_secs(7));
    server.start_again();
    server.submit("r", &[], "true\n");
    assert_eq!(worker.end(), Some(0));
}

#[test]
fn jobs_that_wait_on_a_worker_run_once_when_a_killed_server_has_forgotten_their_deliveries() {
    let Some(mut server) = Server::start() else {
        return;
    };
    let (out, go) = (server.dir.path().join("out"), server.dir.path().join("go"));
    let (shown, shown_go) = (out.display(), go.display());
    // The first one runs, and the others wait for it.
    let first = format!("until test -e {shown_go}; do sleep 0.02; done; true");
    let jobs: String = [first, "true".into(), "true".into(), "true".into()]
        .iter()
        .zip(1..)
        .map(|(wait, job)| format!("echo {job} >> {shown}; {wait} #exitring: group=g\n"))
        .collect();
    server.submit("r", &["--lease", "2s"], &jobs);
    let submitted = server.dir.path().join("submitted");
    let state = server.consumer_state("r", &server.id("r"));
    server.end();
    copy_files(&state, &submitted);
    server.start_again();
    let mut worker = server.worker("r", &["-j4"]);
    wait_until("all jobs on the worker", || {
        server.status("r")["taken"] == 4 && numbers(&out) == [1]
    });
    forget_deliveries(&mut server, &submitted);
    wait_until("the connection", || worker.errors().contains("again"));
    let mut other = server.worker("r", &["-j4"]);
    wait_until("jobs on the other worker", || {
        server.status("r")["workers"].as_array().map(Vec::len) == Some(2)
    });
    fs::write(&go, "").expect("writable");
    assert_eq!((worker.end(), other.end()), (Some(0), Some(0)));
    let executions = numbers(&out);
    for job in 2..=4 {
        let count = executions.iter().filter(|&&number| number == job).count();
        assert_eq!(count, 1, "job {job}: {executions:?}");
    }
    assert_eq!(code(&mut server.command("results", "r", &[])), Some(0));
}

#[test]
fn done_jobs_do_not_run_again_when_a_killed_server_has_forgotten_them() {
    let Some(mut server) = Server::start() else {
        return;
    };
    let (out, go) = (server.dir.path().join("out"), server.dir.path().join("go"));
    let (shown, shown_go) = (out.display(), go.display());
    let mut jobs: String = (1..=6)
        .map(|job| format!("echo {job} >> {shown}\n"))
        .collect();
    jobs += &format!("until test -e {shown_go}; do sleep 0.02; done\n");
    server.submit("r", &["--lease", "2s"], &jobs);
    let submitted = server.dir.path().join("submitted");
    let state = server.consumer_state("r", &server.id("r"));
    server.end();
    copy_files(&state, &submitted);
    server.start_again();
    let mut worker = server.worker("r", &["-j1"]);
    wait_until("six results", || server.status("r")["done"] == 6);
    forget_deliveries(&mut server, &submitted);
    // One that had a connection with the server before, and one that had none.
    let mut other = server.worker("r", &["-j1"]);
    wait_until("the connection", || worker.errors().contains("again"));
    fs::write(&go, "").expect("writable");
    assert_eq!((worker.end(), other.end()), (Some(0), Some(0)));
    assert_eq!(numbers(&out), [1, 2, 3, 4, 5, 6]);
    assert_eq!(code(&mut server.command("results", "r", &[])), Some(0));
}

#[test]
fn two_signals_of_one_request_leave_results_their_time() {
    let Some(mut server) = Server::start() else {
        return;
    };
    let (pid, go) = (server.dir.path().join("pid"), server.dir.path().join("go"));
    let (shown, shown_go) = (pid.display(), go.display());
    let jobs = format!("echo $$ > {shown}; until test -e {shown_go}; do sleep 0.02; done\n");
    server.submit("r", &["--grace", "60s"], &jobs);
    let mut worker = server.worker("r", &["-j1"]);
    wait_until("a job", || numbers(&pid).len() == 1);
    let job = Path::new("/proc").join(numbers(&pid)[0].to_string());
    server.kill();
    wait_until("the report", || worker.errors().contains("is lost"));
    std::fs::write(&go, "").expect("writable");
    // The run goes on until its result is stored.
    wait_until("the end of the job", || !job.exists());
    std::thread::sleep(Duration::from_millis(300));
    let requested = Instant::now();
    worker.signal(libc::SIGTERM);
    wait_until("the result", || worker.errors().contains("1 result waits"));
    worker.signal(libc::SIGHUP);
    // On a machine that was stuck meanwhile they are two requests.
    let is_one = requested.elapsed() < Duration::from_secs(1);
    server.start_again();
    assert!(worker.end().is_some());
    assert!(!is_one || server.records("r").len() == 1);
}
