//! `exitring queue cancel`.

use crate::common::{code, stderr, wait_until};
use crate::server::Server;

#[test]
fn a_cancelled_run_ends_on_all_workers_and_keeps_its_results() {
    let Some(server) = Server::start() else {
        return;
    };
    let jobs = format!("true\n{}", "sleep 100\n".repeat(9));
    server.submit("r", &["--grace", "1"], &jobs);
    let mut workers = [server.worker("r", &["-j2"]), server.worker("r", &["-j1"])];
    wait_until("running jobs and a result", || {
        let status = server.status("r");
        status["taken"] == 3 && status["done"] == 1
    });
    assert_eq!(code(&mut server.command("queue cancel", "r", &[])), Some(0));
    for worker in &mut workers {
        assert_eq!(worker.end(), Some(1));
        assert!(
            worker.errors().contains("was cancelled"),
            "{}",
            worker.errors()
        );
    }
    let records = server.records("r");
    let interrupted = records
        .iter()
        .filter(|record| record["interrupted"] == true);
    assert_eq!((records.len(), interrupted.count()), (4, 3));
    // Nothing can be added, and no worker starts.
    let again = stderr(
        server
            .command("submit", "r", &["--grace", "1"])
            .write_stdin(jobs),
    );
    assert!(again.contains("was cancelled"), "{again}");
    assert_eq!(code(&mut server.command("run", "r", &[])), Some(2));
    let mut follow = server.command("results", "r", &["--follow"]);
    assert_eq!(code(&mut follow), Some(1));
    assert!(stderr(&mut follow).contains("6 of 10 have no result; the run was cancelled"));
}
