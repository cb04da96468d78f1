//! Runs that are deleted while others use them.

use crate::common::{code, stderr, wait_until};
use crate::server::Server;

#[test]
fn a_result_of_a_deleted_run_does_not_reach_a_new_run_with_its_name() {
    let Some(mut server) = Server::start() else {
        return;
    };
    let (go, ended) = (
        server.dir.path().join("go"),
        server.dir.path().join("ended"),
    );
    let job = format!(
        "until test -e {}; do sleep 0.02; done; echo old; echo > {}\n",
        go.display(),
        ended.display()
    );
    server.submit("r", &[], &job);
    let mut worker = server.worker("r", &["-j1"]);
    wait_until("the job", || server.status("r")["taken"] == 1);
    server.kill();
    wait_until("the report", || worker.errors().contains("is lost"));
    std::fs::write(&go, "").expect("writable");
    wait_until("the end of the job", || ended.exists());
    // The worker gets no connection before there is another run with the name.
    worker.signal(libc::SIGSTOP);
    server.start_again();
    assert_eq!(code(&mut server.command("queue delete", "r", &[])), Some(0));
    server.submit("r", &[], "echo new\necho newer\n");
    worker.signal(libc::SIGCONT);
    assert_eq!(worker.end(), Some(2));
    let errors = worker.errors();
    assert!(errors.contains("deleted, and submitted again"), "{errors}");
    let status = server.status("r");
    assert_eq!(
        (&status["done"], &status["waiting"]),
        (&0.into(), &2.into())
    );
    assert_eq!(code(&mut server.command("run", "r", &["-j1"])), Some(0));
    let records = server.records("r");
    let outputs: Vec<_> = records.iter().map(|record| &record["stdout"]).collect();
    assert_eq!(outputs, ["new\n", "newer\n"]);
}

#[test]
fn a_follower_does_not_go_on_with_another_run() {
    let Some(server) = Server::start() else {
        return;
    };
    server.submit("r", &[], "echo old\nsleep 100\n");
    let mut worker = server.worker("r", &["-j1"]);
    let out = server.dir.path().join("out");
    let url = server.url("r");
    let mut follow = crate::common::std_exitring(["results", "--queue", &url, "--follow"])
        .stdout(std::fs::File::create(&out).expect("writable"))
        .spawn()
        .expect("starts");
    wait_until("a result", || {
        std::fs::read_to_string(&out).expect("readable") == "old\n"
    });
    assert_eq!(code(&mut server.command("queue delete", "r", &[])), Some(0));
    server.submit("r", &[], "echo new\necho newer\n");
    assert_eq!(worker.end(), Some(2));
    assert_eq!(code(&mut server.command("run", "r", &["-j1"])), Some(0));
    let mut status = None;
    wait_until("the end of the follower", || {
        status = follow.try_wait().expect("a child");
        status.is_some()
    });
    assert_eq!(status.and_then(|status| status.code()), Some(2));
    assert_eq!(std::fs::read_to_string(&out).expect("readable"), "old\n");
}

#[test]
fn jobs_that_an_interrupted_deletion_has_left_are_not_taken_for_those_of_another_list() {
    let Some(server) = Server::start() else {
        return;
    };
    server.submit("r", &[], "echo old\n");
    // As if a submission had made the stream of jobs again in the middle of the deletion.
    server.publish("$JS.API.STREAM.DELETE.exitring-r-state", "");
    server.publish("$JS.API.STREAM.DELETE.exitring-r-records", "");
    let list = server.file("new", "echo new\necho newer\n");
    let mut submit = server.command("submit", "r", &[&list]);
    assert_eq!(code(&mut submit), Some(2));
    let errors = stderr(&mut submit);
    assert!(errors.contains("queue delete"), "{errors}");
    assert_eq!(code(&mut server.command("queue delete", "r", &[])), Some(0));
    assert_eq!(code(&mut server.command("submit", "r", &[&list])), Some(0));
    assert_eq!(code(&mut server.command("run", "r", &["-j1"])), Some(0));
    assert_eq!(server.records("r").len(), 2);
}

#[test]
fn a_run_is_independent_of_those_whose_names_begin_like_its_name() {
    let Some(server) = Server::start() else {
        return;
    };
    let runs = ["r", "r-jobs", "r-records", "r-state", "r-jobs-state"];
    for run in runs {
        let delete = &mut server.command("queue delete", run, &[]);
        assert_eq!(code(delete), Some(2), "there is no run {run}");
        server.submit(run, &[], &format!("echo {run}\n"));
    }
    for run in runs {
        assert_eq!(code(&mut server.command("run", run, &["-j1"])), Some(0));
    }
    for (index, run) in runs.into_iter().enumerate() {
        for left in &runs[index..] {
            let records = server.records(left);
            assert_eq!(records.len(), 1, "{left}");
            assert_eq!(records[0]["command"], format!("echo {left}"));
        }
        assert_eq!(code(&mut server.command("queue delete", run, &[])), Some(0));
    }
}
