//! `exitring run --queue`.

use crate::common::{code, numbers, stderr, wait_until};
use crate::server::Server;

#[test]
fn two_workers_share_a_list_and_both_end() {
    let Some(server) = Server::start() else {
        return;
    };
    let out = server.dir.path().join("out");
    let jobs: String = (1..=40)
        .map(|job| format!("echo {job} >> {}; sleep 0.02\n", out.display()))
        .collect();
    server.submit("r", &[], &jobs);
    let mut workers = [server.worker("r", &["-j2"]), server.worker("r", &["-j2"])];
    for worker in &mut workers {
        assert_eq!(worker.end(), Some(0));
    }
    assert_eq!(numbers(&out), (1..=40).collect::<Vec<_>>());
    let records = server.records("r");
    assert_eq!(records.len(), 40);
    assert!(records.iter().all(|record| record["accepted"] == true));
    let status = server.status("r");
    assert_eq!(
        (&status["done"], &status["waiting"], &status["taken"]),
        (&40.into(), &0.into(), &0.into())
    );
    let workers = status["workers"].as_array().expect("a list");
    assert_eq!(workers.len(), 2);
    assert!(
        workers.iter().all(|worker| worker["state"] == "ended"),
        "{status}"
    );
}

#[test]
fn sigterm_gives_back_what_runs_and_what_waits_and_it_does_not_count_as_lost() {
    let Some(server) = Server::start() else {
        return;
    };
    // With a lease of an hour nothing would run again in the time of the test by itself.
    let options = ["--lease", "1h", "--max-lost", "1", "--grace", "1"];
    let (go, starts) = (
        server.dir.path().join("go"),
        server.dir.path().join("starts"),
    );
    let (shown_go, shown_starts) = (go.display(), starts.display());
    let job = format!("test -e {shown_go} || {{ echo 1 >> {shown_starts}; exec sleep 100; }}\n");
    server.submit("r", &options, &job.repeat(6));
    for round in 1..=2 {
        let mut worker = server.worker("r", &["-j2"]);
        wait_until("two jobs", || numbers(&starts).len() == 2 * round);
        worker.signal(libc::SIGTERM);
        assert_eq!(worker.end(), Some(130));
    }
    assert_eq!(server.records("r").len(), 0);
    std::fs::write(&go, "").expect("writable");
    assert_eq!(code(&mut server.command("run", "r", &["-j2"])), Some(0));
    assert_eq!(server.records("r").len(), 6);
}

#[test]
fn jobs_that_a_machine_lacks_descriptors_for_are_given_back_and_do_not_count_as_lost() {
    let Some(server) = Server::start() else {
        return;
    };
    server.submit("r", &["--max-lost", "1"], &"sleep 0.3\n".repeat(40));
    let mut worker = crate::common::shell(&format!(
        "ulimit -n 48; exec \"$EXITRING\" run --queue {} -j 40",
        server.url("r")
    ));
    let output = worker.output().expect("runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    assert!(errors.contains("fewer than -j allows"), "{errors}");
    let records = server.records("r");
    assert_eq!(records.len(), 40);
    assert!(records.iter().all(|record| record["lost"] == 0));
    assert!(
        records
            .iter()
            .any(|record| record["delivery"].as_u64() > Some(1))
    );
}

#[test]
fn options_of_the_list_cannot_be_given_to_a_worker() {
    for option in [
        &["--timeout", "1"][..],
        &["--retries", "1"],
        &["--env", "A=b"],
        &["list"],
        &["--shard", "1/2"],
        &["--", "true"],
        &["--halt", "soon,fail=10%"],
    ] {
        let words = ["run", "--queue", "nats://127.0.0.1/r"].into_iter();
        let mut command = crate::common::exitring(words.chain(option.iter().copied()));
        assert_eq!(code(&mut command), Some(2), "{option:?}");
    }
}

#[test]
fn options_of_the_machine_work_with_a_queue() {
    let Some(server) = Server::start() else {
        return;
    };
    server.submit("r", &[], "echo a\necho b >&2; exit 3\ntrue\n");
    let dir = server.dir.path();
    let path = |name: &str| dir.join(name).display().to_string();
    let (log, joblog, junit, trace) = (path("logs"), path("joblog"), path("junit"), path("trace"));
    let options = [
        "--log", &log, "--joblog", &joblog, "--junit", &junit, "--trace", &trace, "--output",
        "jsonl",
    ];
    assert_eq!(code(&mut server.command("run", "r", &options)), Some(1));
    assert_eq!(
        std::fs::read_to_string(dir.join("logs/1.out")).expect("written"),
        "a\n"
    );
    let records = server.records("r");
    let second = records
        .iter()
        .find(|record| record["job"] == 2)
        .expect("a record");
    assert_eq!(
        (&second["exit_code"], &second["stderr"]),
        (&3.into(), &"b\n".into())
    );
    let lines = std::fs::read_to_string(joblog).expect("written");
    assert_eq!(crate::common::jobs(&lines).len(), 3);
    assert!(
        std::fs::read_to_string(junit)
            .expect("written")
            .contains("testcase")
    );
}

#[test]
fn a_worker_can_wait_for_its_run() {
    let Some(server) = Server::start() else {
        return;
    };
    let mut early = server.worker("r", &["--wait"]);
    let absent = stderr(&mut server.command("run", "r", &[]));
    assert!(absent.contains("there is no run r"), "{absent}");
    server.submit("r", &[], "true\n");
    assert_eq!(early.end(), Some(0));
    assert_eq!(server.records("r").len(), 1);
}

#[test]
fn the_output_of_a_record_is_its_end() {
    let Some(server) = Server::start() else {
        return;
    };
    // Each of these bytes is six in JSON.
    server.submit(
        "r",
        &[],
        "head -c 300000 /dev/zero | tr '\\0' '\\001'; echo end\n",
    );
    assert_eq!(
        code(&mut server.command("run", "r", &["--discard"])),
        Some(0)
    );
    server.submit(
        "s",
        &[],
        "head -c 300000 /dev/zero | tr '\\0' '\\001'; echo end\n",
    );
    assert_eq!(code(&mut server.command("run", "s", &["-q"])), Some(0));
    let record = &server.records("s")[0];
    let text = record["stdout"].as_str().expect("a text");
    assert!(text.ends_with("end\n") && text.len() <= 64 * 1024);
    assert_eq!(
        record["stdout_omitted"].as_u64(),
        Some(300_004 - text.len() as u64)
    );
    assert!(server.records("r")[0].get("stdout").is_none());
}

#[test]
fn a_machine_that_may_start_nothing_leaves_the_jobs_to_others() {
    let Some(server) = Server::start() else {
        return;
    };
    server.submit("r", &["--lease", "1h"], &"true\n".repeat(4));
    let mut held_up = server.worker("r", &["-j4", "--memfree", "1000T"]);
    wait_until("jobs on the first worker", || {
        server.status("r")["taken"] == 4
    });
    assert_eq!(code(&mut server.command("run", "r", &["-j1"])), Some(0));
    assert_eq!(held_up.end(), Some(0));
    assert_eq!(server.records("r").len(), 4);
}

#[test]
fn a_job_that_fails_with_attempts_left_while_its_worker_ends_runs_on_another_one() {
    let Some(server) = Server::start() else {
        return;
    };
    let path = |name: &str| server.dir.path().join(name).display().to_string();
    let (started, go, failed) = (path("started"), path("go"), path("failed"));
    let jobs = format!(
        "until test -e {started}; do sleep 0.02; done\n\
         test -e {failed} && exit; touch {started}; until test -e {go}; do sleep 0.02; done; touch {failed}; exit 1\n"
    );
    server.submit("r", &["--lease", "1h", "--retries", "1"], &jobs);
    let mut worker = server.worker("r", &["-j2", "--halt", "soon,success=1"]);
    wait_until("a result", || server.status("r")["done"] == 1);
    std::fs::write(&go, "").expect("writable");
    worker.end();
    assert_eq!(code(&mut server.command("run", "r", &[])), Some(0));
    let records = server.records("r");
    assert_eq!(records.len(), 2);
    assert!(records.iter().all(|record| record["success"] == true));
    assert!(records.iter().all(|record| record["lost"] == 0));
}

#[test]
fn a_job_that_its_worker_gives_back_again_and_again_does_not_count_as_lost() {
    let Some(server) = Server::start() else {
        return;
    };
    let go = server.dir.path().join("go");
    let job = format!("test -e {} || exec sleep 100\n", go.display());
    server.submit(
        "r",
        &["--lease", "1h", "--max-lost", "1", "--grace", "1"],
        &job,
    );
    // Its other requests are still open when it ends, so it may get the job again.
    let mut worker = server.worker("r", &["-j4"]);
    wait_until("the job", || server.status("r")["taken"] == 1);
    worker.signal(libc::SIGTERM);
    assert_eq!(worker.end(), Some(130));
    std::fs::write(&go, "").expect("writable");
    assert_eq!(code(&mut server.command("run", "r", &[])), Some(0));
    let record = &server.records("r")[0];
    assert_eq!(record["lost"], 0);
    assert!(record["delivery"].as_u64() > Some(1), "{record}");
}

#[test]
fn jobs_that_wait_for_a_retry_or_their_group_do_not_keep_others_from_starting() {
    let Some(server) = Server::start() else {
        return;
    };
    let go = server.dir.path().join("go").display().to_string();
    // The first two jobs wait for an hour; the next ones for the end of the third.
    let wait = format!("until test -e {go}; do sleep 0.02; done");
    let jobs = format!(
        "test $EXITRING_ATTEMPT = 2\ntest $EXITRING_ATTEMPT = 2\n\
         {wait} #exitring: group=a\ntrue #exitring: group=a\n\
         touch {go}\n"
    );
    server.submit("r", &["--retries", "1", "--retry-delay", "1h"], &jobs);
    let mut worker = server.worker("r", &["-j2"]);
    wait_until("the jobs that can run", || server.status("r")["done"] == 3);
    assert_eq!(code(&mut server.command("queue cancel", "r", &[])), Some(0));
    assert_eq!(worker.end(), Some(1));
}

#[test]
fn a_worker_that_joins_looks_jobs_up_only_if_the_server_has_restarted() {
    let Some(mut server) = Server::with("jetstream { store_dir: STORE }\ntrace: true") else {
        return;
    };
    let go = server.dir.path().join("go");
    let waits = format!("until test -e {}; do sleep 0.02; done\n", go.display());
    server.submit("r", &[], &["true\n", &waits, &waits, "true\n"].concat());
    let log = server.dir.path().join("log");
    let looked_up = || {
        let log = std::fs::read_to_string(&log).expect("a log");
        let mut lines = log.lines();
        lines.any(|line| line.contains("last_by_subj") && line.contains("exitring.r.record."))
    };
    let mut first = server.worker("r", &["-j1"]);
    wait_until("a result and a job", || {
        let status = server.status("r");
        status["done"] == 1 && status["taken"] == 1
    });
    let mut second = server.worker("r", &["-j1"]);
    wait_until("two jobs", || server.status("r")["taken"] == 2);
    assert!(!looked_up());
    server.end();
    server.start_again();
    let mut third = server.worker("r", &["-j1"]);
    wait_until("another result", || server.status("r")["done"] == 2);
    assert!(looked_up());
    std::fs::write(&go, "").expect("writable");
    for worker in [&mut first, &mut second, &mut third] {
        assert_eq!(worker.end(), Some(0));
    }
}

#[test]
fn large_jobs_are_requested_a_few_at_a_time() {
    let Some(server) = Server::start() else {
        return;
    };
    // More than one request gets.
    let jobs = format!("true {}\n", "x".repeat(100_000)).repeat(60);
    server.submit("r", &[], &jobs);
    let mut worker = server.worker("r", &["-j60"]);
    assert_eq!(worker.end(), Some(0));
    assert!(
        !worker.errors().contains("gives no jobs"),
        "{}",
        worker.errors()
    );
    assert_eq!(server.records("r").len(), 60);
}
