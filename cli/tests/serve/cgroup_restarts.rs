//! Restarts of a service whose processes have cgroups of their own.

use std::fs;
use std::path::Path;
use std::process::Command;

use exitring_protocol::{Client, Outcome, Record, Spawn, Unknown};
use rustix::process::{Signal, kill_process};

use crate::cgroups::{daemon, is_running, leftover, pid_in, service_in, with_cgroup};
use crate::service::{Service, counts, eventually, next_record, sh, stored_records};
use crate::test_group::TestGroup;

fn by_tag(service: &Service, tag: &str) -> Record {
    let records = stored_records(service, 0);
    let record = records.into_iter().find(|record| record.tag == tag);
    record.expect("it was recorded")
}

#[test]
fn a_restarted_service_knows_the_cgroups_of_its_processes() {
    let Some(group) = TestGroup::new("a_restarted_service_knows_the_cgroups_of_its_processes")
    else {
        return;
    };
    let mut service = service_in(&group);
    let mut client = service.client();
    let directory = service.directory.path().to_owned();
    let spawn = |client: &mut Client, tag: &str, timeout_ms: Option<u64>| {
        let script = format!(
            "{} while [ ! -e {} ]; do sleep 0.01; done; exit 3",
            daemon(&directory.join(tag)),
            directory.join(format!("{tag}-ends")).display()
        );
        let spawn = Spawn {
            timeout_ms,
            grace_ms: Some(100),
            ..with_cgroup(sh(&script, tag))
        };
        let pid = client.spawn(spawn).expect("it starts").pid;
        (pid, pid_in(&directory.join(tag)))
    };
    let (down, down_daemon) = spawn(&mut client, "down", None);
    let (_, after_daemon) = spawn(&mut client, "after", None);
    let (_, late_daemon) = spawn(&mut client, "late", Some(5000));
    service.kill();
    fs::write(directory.join("down-ends"), "").expect("it can be written");
    eventually("it has ended", || !is_running(down));
    service.start_again();
    // It ended while the service was down. Its daemon was counted, and still runs.
    eventually("it is recorded", || service.counts().last_seq >= 1);
    let record = by_tag(&service, "down");
    assert_eq!(record.cgroup, leftover(1));
    assert!(is_running(down_daemon));
    fs::write(directory.join("after-ends"), "").expect("it can be written");
    eventually("both others are recorded", || service.counts().watched == 0);
    assert_eq!(by_tag(&service, "after").cgroup, leftover(1));
    assert!(is_running(after_daemon));
    let late = by_tag(&service, "late");
    assert!(late.timed_out, "{late:?}");
    eventually("the timeout has ended the daemon", || {
        !is_running(late_daemon)
    });
    // The leaves are removed once they are empty.
    group.kill_all();
    service.terminate();
    service.start_again();
    assert_eq!(group.leaves(), [] as [&Path; 0]);
}

#[test]
fn a_reexec_keeps_the_cgroups_and_the_own_cgroup_is_found_again() {
    let Some(group) = TestGroup::new("a_reexec_keeps_the_cgroups") else {
        return;
    };
    let mut service = Service::start(&[]);
    service.kill();
    let mut command = Command::new("sh");
    command
        .args(["-c", "echo 0 > \"$0\"/cgroup.procs; exec \"$@\""])
        .arg(&group.path)
        .arg(service.command().get_program())
        .args(service.command().get_args())
        .args(["--cgroup", "own"])
        .env("RUST_LOG", "error");
    service.process = command.spawn().expect("it starts");
    service.wait_until_it_answers();
    let mut client = service.client();
    let file = service.directory.path().join("ends");
    let script = format!(
        "while [ ! -e {} ]; do sleep 0.01; done; exit 4",
        file.display()
    );
    client
        .spawn(with_cgroup(sh(&script, "before")))
        .expect("it starts");
    kill_process(service.pid(), Signal::USR2).expect("it is alive");
    eventually("the old image's connection ends", || {
        client
            .ask(exitring_protocol::Request::Stats(Default::default()))
            .is_err()
    });
    let mut client = service.client();
    client.subscribe(0).expect("it subscribes");
    client
        .spawn(with_cgroup(sh("exit 5", "after")))
        .expect("it starts");
    let record = next_record(&mut client);
    assert_eq!(
        (record.outcome, record.cgroup),
        (Outcome::Exited(5), leftover(0))
    );
    fs::write(file, "").expect("it can be written");
    let record = next_record(&mut client);
    assert_eq!(
        (record.outcome, record.cgroup),
        (Outcome::Exited(4), leftover(0))
    );
}

#[test]
fn a_state_directory_of_an_earlier_version_is_used() {
    let mut service = Service::start(&[]);
    let mut client = service.client();
    client.spawn(sh("sleep 1000", "old")).expect("it starts");
    service.kill();
    let state = rusqlite::Connection::open(service.directory.path().join("state/exits.sqlite"));
    let columns =
        "ALTER TABLE watches DROP COLUMN leaf; ALTER TABLE watches DROP COLUMN leaf_inode";
    let state = state.expect("it is a database");
    state.execute_batch(columns).expect("they exist");
    drop(state);
    service.start_again();
    let mut client = service.client();
    assert_eq!(counts(&mut client).watched, 1);
    client.subscribe(0).expect("it subscribes");
    let watch = 1;
    let signal = exitring_protocol::Signal {
        watch,
        signal: libc::SIGKILL,
        group: true,
    };
    client
        .ask(exitring_protocol::Request::Signal(signal))
        .expect("it is alive");
    let record = next_record(&mut client);
    assert_eq!((record.watch, record.cgroup), (watch, None));
    assert_ne!(record.outcome, Outcome::Unknown(Unknown::ServiceDown));
}
