//! The subcommands `watch` and `exits`.

use std::process::Command;

use crate::service::{Service, counts, eventually, sh, watch_of};
use crate::zombie::Zombie;

#[test]
fn the_watch_and_exits_subcommands_print_records() {
    let service = Service::start(&[]);
    let exitring = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_exitring"));
        command
            .args(arguments)
            .arg("--socket")
            .arg(service.socket());
        let output = command.output().expect("it starts");
        let lines = String::from_utf8(output.stdout).expect("it is UTF-8");
        let lines: Vec<serde_json::Value> = lines
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        (output.status.code(), lines)
    };
    let mut client = service.client();
    let first = client
        .spawn(sh("sleep 0.2; exit 3", "first"))
        .expect("it starts");
    let (code, lines) = exitring(&["watch", &first.pid.to_string()]);
    // The service is its parent, and reports its status.
    assert_eq!((code, lines.len()), (Some(1), 1));
    assert_eq!(lines[0]["outcome"]["exited"], 3);
    assert_eq!(exitring(&["watch", "-5"]).0, Some(2));
    let (code, lines) = exitring(&["exits", "--ack"]);
    assert_eq!((code, lines.len()), (Some(0), 2));
    let (code, lines) = exitring(&["exits"]);
    assert_eq!((code, lines.len()), (Some(0), 0));
    // More than a page, and the last record is of another client.
    let zombie = Zombie::new();
    for _ in 0..1000 {
        client
            .watch(watch_of(zombie.pid()))
            .expect("it is not reaped");
    }
    let mut other = service.named(Some("other"));
    other.spawn(sh("exit 0", "")).expect("it starts");
    eventually("all are recorded", || counts(&mut client).watched == 0);
    let (code, lines) = exitring(&["exits", "--client", "other"]);
    assert_eq!((code, lines.len()), (Some(0), 1));
    let first = lines[0]["seq"].as_u64().expect("it has one") - 1000;
    let (code, lines) = exitring(&["exits", "--from", "1"]);
    assert_eq!((code, lines.len()), (Some(0), 1001));
    // --ack would acknowledge records that were not printed.
    let from = (first + 500).to_string();
    let (code, lines) = exitring(&["exits", "--from", &from, "--ack"]);
    assert_eq!((code, lines.len()), (Some(2), 0));
    assert_eq!(counts(&mut client).records, 1001);
}
