//! A cluster of three servers.

use std::net::TcpListener;

use crate::common::{code, numbers, stderr, wait_until};
use crate::server::{Server, worker_of};

/// Three servers that know each other.
fn start() -> Option<[Server; 3]> {
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    let ports = listeners.map(|it| it.local_addr().expect("it is bound").port());
    let routes = ports.map(|port| format!("\"nats://127.0.0.1:{port}\""));
    let routes = routes.join(", ");
    let server = |port: u16| {
        Server::with(&format!(
            "server_name: n{port}\njetstream {{ store_dir: STORE }}\n\
             cluster {{ name: c, listen: \"127.0.0.1:{port}\", routes: [{routes}] }}"
        ))
    };
    Some([server(ports[0])?, server(ports[1])?, server(ports[2])?])
}

#[test]
fn a_run_with_three_replicas_outlives_one_server() {
    let Some([first, second, mut third]) = start() else {
        return;
    };
    let hosts = [third.host(), first.host(), second.host()].join(",");
    let out = first.dir.path().join("out");
    let jobs: String = (1..=300)
        .map(|job| format!("echo {job} >> {}; sleep 0.02\n", out.display()))
        .collect();
    let list = first.file("list", &jobs);
    // The servers elect leaders first.
    wait_until("a submission", || {
        let options = ["--replicas", "3", "--lease", "3s"];
        let mut submit = first.command("submit", "r", &options);
        submit.arg(&list).output().expect("runs").status.success()
    });
    let url = format!("nats://{hosts}/r");
    let mut workers = [(); 2].map(|()| worker_of(&url, &["-j2", "--log", "nats"]));
    wait_until("some results", || {
        first.status("r")["done"].as_u64() >= Some(50)
    });
    third.kill();
    for worker in &mut workers {
        assert_eq!(worker.end(), Some(0));
    }
    let logs = first.dir.path().join("logs").display().to_string();
    let mut results = first.command("results", "r", &["--logs", &logs]);
    assert_eq!(code(&mut results), Some(0));
    let mut executions = numbers(&out);
    executions.dedup();
    assert_eq!(executions, (1..=300).collect::<Vec<_>>());
}

#[test]
fn results_are_read_when_a_cluster_has_a_leader_again() {
    let Some([mut first, mut second, third]) = start() else {
        return;
    };
    let list = first.file("list", "true\n");
    wait_until("a submission", || {
        let mut submit = third.command("submit", "r", &["--replicas", "3"]);
        submit.arg(&list).output().expect("runs").status.success()
    });
    assert_eq!(code(&mut third.command("run", "r", &[])), Some(0));
    first.kill();
    second.kill();
    wait_until("the end of the leader", || {
        let mut status = third.command("queue status", "r", &[]);
        stderr(&mut status).contains("temporarily unavailable")
    });
    let url = third.url("r");
    let mut results = crate::common::std_exitring(["results", "--queue", &url]);
    let mut results = results.spawn().expect("starts");
    // It would end at once without a leader.
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert_eq!(results.try_wait().expect("it is a child"), None);
    first.start_again();
    second.start_again();
    assert_eq!(results.wait().expect("it is a child").code(), Some(0));
}
