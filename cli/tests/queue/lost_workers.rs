//! Workers that die.

use crate::common::{code, numbers, wait_until};
use crate::proxy::Proxy;
use crate::server::{Server, worker_of};

const LEASE: [&str; 2] = ["--lease", "1s"];

#[test]
fn the_jobs_of_a_killed_worker_run_again_and_are_marked() {
    let Some(server) = Server::start() else {
        return;
    };
    let go = server.dir.path().join("go");
    let jobs = format!("test -e {0} || exec sleep 100\n", go.display()).repeat(4);
    server.submit("r", &LEASE, &jobs);
    let mut killed = server.worker("r", &["-j2"]);
    wait_until("two jobs", || server.status("r")["taken"] == 2);
    killed.child.kill().expect("a child");
    std::fs::write(&go, "").expect("writable");
    let mut other = server.worker("r", &["-j2"]);
    assert_eq!(other.end(), Some(0));
    let records = server.records("r");
    assert_eq!(records.len(), 4);
    let again = records
        .iter()
        .filter(|record| record["delivery"] == 2 && record["lost"] == 1);
    assert_eq!(again.count(), 2);
}

#[test]
fn a_result_of_a_worker_that_had_lost_its_lease_does_not_count() {
    let Some(server) = Server::start() else {
        return;
    };
    let (first, second) = (
        server.dir.path().join("first"),
        server.dir.path().join("second"),
    );
    // The first process that runs the job waits for the second.
    let job = format!(
        "mkdir {0} && exec sh -c 'until test -e {1}; do sleep 0.05; done; echo first' || echo second\n",
        first.display(),
        second.display()
    );
    server.submit("r", &LEASE, &job);
    let mut stopped = server.worker("r", &[]);
    wait_until("the first run of the job", || first.exists());
    stopped.signal(libc::SIGSTOP);
    assert_eq!(code(&mut server.command("run", "r", &[])), Some(0));
    std::fs::write(&second, "").expect("writable");
    stopped.signal(libc::SIGCONT);
    assert_eq!(stopped.end(), Some(0));
    let records = server.records("r");
    let shown = |record: &serde_json::Value| (record["stdout"].clone(), record["accepted"].clone());
    assert_eq!(shown(&records[0]), ("second\n".into(), true.into()));
    // The other worker may have lost its connection while it was stopped: then it has given the
    // job up.
    if let Some(record) = records.get(1) {
        assert_eq!(shown(record), ("first\n".into(), false.into()));
    }
    assert!(records.len() <= 2);
    assert_eq!(code(&mut server.command("results", "r", &[])), Some(0));
}

#[test]
fn a_job_with_a_result_does_not_run_again_when_its_worker_was_lost_before_the_acknowledgement() {
    let Some(server) = Server::start() else {
        return;
    };
    let starts = server.dir.path().join("starts");
    let job = format!("echo 1 >> {}; exec sleep 100\n", starts.display());
    server.submit("r", &LEASE, &job);
    let mut killed = server.worker("r", &[]);
    wait_until("the start", || numbers(&starts).len() == 1);
    killed.child.kill().expect("a child");
    // What the worker would have published before it died.
    let record = serde_json::json!({
        "type": "job", "job": 1, "command": "", "attempts": 1, "outcome": "exited", "exit_code": 0,
        "signal": null, "reason": null, "success": true, "timed_out": false, "interrupted": false,
        "flaky": false, "slow": false, "started_at": "", "wall_seconds": 1.0, "user_seconds": null,
        "system_seconds": null, "max_rss_bytes": null, "hash": "", "name": null, "worker": "w",
        "host": "h", "delivery": 1, "lost": 0,
    });
    let subject = format!("exitring.r.record.{}.1", server.id("r"));
    server.publish(&subject, &record.to_string());
    // The other worker finds the record, and acknowledges the job when it gets it.
    let mut other = server.worker("r", &[]);
    assert_eq!(other.end(), Some(0));
    assert_eq!(numbers(&starts).len(), 1);
    assert_eq!(server.records("r").len(), 1);
}

#[test]
fn a_job_whose_worker_dies_each_time_ends_with_a_record() {
    let Some(server) = Server::start() else {
        return;
    };
    server.submit(
        "r",
        &["--lease", "500ms", "--max-lost", "2"],
        "kill -9 $PPID\ntrue\n",
    );
    for _ in 0..2 {
        let mut worker = server.worker("r", &["-j1"]);
        assert_eq!(worker.end(), Some(137));
    }
    let junit = server.file("report.xml", "");
    let mut last = server.worker("r", &["-j1", "--junit", &junit]);
    assert_eq!(last.end(), Some(1));
    let report = std::fs::read_to_string(junit).expect("a report");
    assert!(
        report.contains("errors=\"1\"") && report.contains("given up"),
        "{report}"
    );
    let records = server.records("r");
    assert_eq!(records.len(), 2);
    let poison = records
        .iter()
        .find(|record| record["job"] == 1)
        .expect("a record");
    assert_eq!(
        (&poison["outcome"], &poison["success"]),
        (&"unknown".into(), &false.into())
    );
    let reason = poison["reason"].as_str().expect("a reason");
    assert!(reason.contains("2 times"), "{reason}");
    assert_eq!(
        code(&mut server.command("results", "r", &["--follow"])),
        Some(1)
    );
}

#[test]
fn a_consumer_that_was_deleted_ends_the_workers_and_done_jobs_do_not_run_again() {
    let Some(server) = Server::start() else {
        return;
    };
    let (out, go) = (server.dir.path().join("out"), server.dir.path().join("go"));
    let (shown, shown_go) = (out.display(), go.display());
    let jobs =
        format!("echo 1 >> {shown}\necho 2 >> {shown}\ntest -e {shown_go} || exec sleep 100\n");
    server.submit("r", &[], &jobs);
    let mut worker = server.worker("r", &["-j1"]);
    wait_until("two results", || server.status("r")["done"] == 2);
    let consumer = format!("exitring-r-jobs.workers-{}", server.id("r"));
    server.publish(&format!("$JS.API.CONSUMER.DELETE.{consumer}"), "");
    assert_eq!(worker.end(), Some(2));
    assert_eq!(code(&mut server.command("run", "r", &[])), Some(2));
    std::fs::write(&go, "").expect("writable");
    server.submit("r", &[], &jobs);
    assert_eq!(code(&mut server.command("run", "r", &["-j1"])), Some(0));
    assert_eq!(numbers(&out), [1, 2]);
    assert_eq!(server.records("r").len(), 3);
}

#[test]
fn the_record_of_a_job_that_is_given_up_fits_into_a_message() {
    let Some(server) = Server::with("jetstream { store_dir: STORE }\nmax_payload: 4096") else {
        return;
    };
    // In the record these bytes take three times as many as in the job.
    let path = server.dir.path().join("list");
    let job = [b"kill -9 $PPID #".as_slice(), &[0xff; 1500], b"\n"].concat();
    std::fs::write(&path, job).expect("writable");
    let options = ["--lease", "500ms", "--max-lost", "1"];
    let mut submit = server.command("submit", "r", &options);
    assert_eq!(code(submit.arg(&path)), Some(0));
    let mut worker = server.worker("r", &["-j1"]);
    assert_eq!(worker.end(), Some(137));
    let mut last = server.worker("r", &["-j1"]);
    assert_eq!(last.end(), Some(1));
    assert_eq!(server.records("r")[0]["outcome"], "unknown");
}

#[test]
fn a_job_that_was_on_its_way_for_longer_than_its_lease_runs_once() {
    let Some(server) = Server::start() else {
        return;
    };
    let out = server.dir.path().join("out");
    let jobs = format!("echo 1 >> {}\n", out.display());
    server.submit("r", &["--lease", "1s"], &jobs);
    let proxy = Proxy::start(server.host());
    // The server gives it the job, and nothing of that arrives.
    let mut cut_off = worker_of(&proxy.url("r"), &[]);
    wait_until("a delivery", || proxy.holds());
    let mut other = server.worker("r", &[]);
    assert_eq!(other.end(), Some(0));
    proxy.release();
    assert_eq!(cut_off.end(), Some(0));
    assert_eq!(numbers(&out), [1]);
    let records = server.records("r");
    let lost: Vec<_> = records.iter().map(|record| &record["lost"]).collect();
    assert_eq!(lost, [1]);
}

#[test]
fn a_worker_that_was_cut_off_does_not_take_the_job_from_its_new_worker() {
    let Some(server) = Server::start() else {
        return;
    };
    let (out, go) = (server.dir.path().join("out"), server.dir.path().join("go"));
    let (shown, shown_go) = (out.display(), go.display());
    let jobs = format!("echo 1 >> {shown}; until test -e {shown_go}; do sleep 0.02; done\n");
    server.submit("r", &["--lease", "1s"], &jobs);
    let proxy = Proxy::start(server.host());
    proxy.release();
    let mut cut_off = worker_of(&proxy.url("r"), &[]);
    wait_until("the first start", || numbers(&out).len() == 1);
    proxy.cut();
    let mut other = server.worker("r", &[]);
    wait_until("the second start", || numbers(&out).len() == 2);
    proxy.release();
    wait_until("a renewal", || {
        cut_off.errors().contains("renews leases again")
    });
    let acknowledgements = server.subscribe("$JS.ACK.>");
    cut_off.signal(libc::SIGTERM);
    assert_eq!(cut_off.end(), Some(130));
    // A job that is given back is delivered again at once.
    let received = acknowledgements.received();
    assert!(!received.contains("-NAK"), "{received}");
    std::fs::write(&go, "").expect("writable");
    assert_eq!(other.end(), Some(0));
    assert_eq!(numbers(&out), [1, 1]);
}

#[test]
fn done_jobs_do_not_run_again_on_a_worker_whose_consumer_is_recreated() {
    let Some(server) = Server::start() else {
        return;
    };
    let (out, go) = (server.dir.path().join("out"), server.dir.path().join("go"));
    let (shown, shown_go) = (out.display(), go.display());
    let wait = format!("until test -e {shown_go}; do sleep 0.02; done");
    let jobs = format!("echo 1 >> {shown}\necho 2 >> {shown}\n{wait}; echo 3 >> {shown}\n");
    server.submit("r", &[], &jobs);
    let mut worker = server.worker("r", &["-j3"]);
    wait_until("two results", || server.status("r")["done"] == 2);
    recreate_consumer(&server, &[], &jobs);
    // The worker has room, so it gets all jobs of the new consumer, and acknowledges two.
    wait_until("the lookups", || {
        let status = server.status("r");
        (&status["waiting"], &status["taken"]) == (&0.into(), &1.into())
    });
    std::fs::write(&go, "").expect("writable");
    assert_eq!(worker.end(), Some(0));
    assert_eq!(numbers(&out), [1, 2, 3]);
    assert_eq!(server.records("r").len(), 3);
}

/// Deletes the consumer of the run `r`, and submits its list again.
fn recreate_consumer(server: &Server, options: &[&str], jobs: &str) {
    let consumer = format!("exitring-r-jobs.workers-{}", server.id("r"));
    server.publish(&format!("$JS.API.CONSUMER.DELETE.{consumer}"), "");
    server.submit("r", options, jobs);
}

#[test]
fn a_job_that_ends_after_its_consumer_was_deleted_does_not_run_again() {
    let Some(server) = Server::start() else {
        return;
    };
    let file = |name: &str| server.dir.path().join(name);
    let wait = |name| {
        format!(
            "until test -e {}; do sleep 0.02; done",
            file(name).display()
        )
    };
    let out = file("out");
    let jobs = format!(
        "{}\necho 2 >> {}; {}\n",
        wait("go1"),
        out.display(),
        wait("go2")
    );
    server.submit("r", &[], &jobs);
    let mut worker = server.worker("r", &["-j2"]);
    wait_until("two jobs", || server.status("r")["taken"] == 2);
    wait_until("the second", || numbers(&out) == [2]);
    // No job has a result yet.
    recreate_consumer(&server, &[], &jobs);
    std::fs::write(file("go2"), "").expect("writable");
    // The worker gets both jobs again: it has the first, and the second has a result.
    wait_until("the lookup", || {
        let status = server.status("r");
        (&status["waiting"], &status["taken"]) == (&0.into(), &1.into())
    });
    std::fs::write(file("go1"), "").expect("writable");
    assert_eq!(worker.end(), Some(0));
    assert_eq!(numbers(&out), [2]);
}

#[test]
fn jobs_of_a_deleted_consumer_do_not_hold_up_those_of_the_new_one() {
    let Some(server) = Server::start() else {
        return;
    };
    let file = |name: &str| server.dir.path().join(name);
    let wait = |name| {
        format!(
            "until test -e {}; do sleep 0.02; done\n",
            file(name).display()
        )
    };
    let out = file("out");
    let last = format!("echo 3 >> {}\n", out.display()).repeat(20);
    let jobs = [wait("go1"), wait("go2"), last].concat();
    let lease = ["--lease", "1s"];
    server.submit("r", &lease, &jobs);
    // It has no free place, and both leases are of the consumer that is deleted.
    let mut worker = server.worker("r", &["-j2"]);
    wait_until("two jobs", || {
        server.status("r")["taken"].as_u64() >= Some(2)
    });
    recreate_consumer(&server, &lease, &jobs);
    // Longer than a lease, in which no renewal of the old ones is answered.
    std::thread::sleep(std::time::Duration::from_secs(2));
    std::fs::write(file("go2"), "").expect("writable");
    wait_until("jobs of the new consumer", || numbers(&out).len() >= 20);
    std::fs::write(file("go1"), "").expect("writable");
    assert_eq!(worker.end(), Some(0));
    assert_eq!(server.records("r").len(), 22);
}
