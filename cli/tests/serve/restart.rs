//! The service stops in several ways, and restarts.

use std::fs;
use std::process::Command;

use exitring_protocol::{Client, Outcome, Record, Unknown, Watch, WatchFor};
use rustix::process::{Signal, kill_process};

use crate::service::{Service, counts, eventually, next_record, sh, stored_records, watch_of};

/// Starts a process that waits for a file, and then exits with a code.
fn spawn_waiting(service: &Service, client: &mut Client, name: &str, code: i32) -> i32 {
    let file = service.directory.path().join(name);
    let script = format!(
        "while [ ! -e {} ]; do sleep 0.02; done; exit {code}",
        file.display()
    );
    client.spawn(sh(&script, name)).expect("it starts").pid
}

fn release(service: &Service, name: &str) {
    fs::write(service.directory.path().join(name), "").expect("it can be written");
}

fn by_tag(records: &[Record], tag: &str) -> Record {
    let mut of_tag = records.iter().filter(|record| record.tag == tag);
    let one = of_tag.next().expect("a record has the tag").clone();
    assert_eq!(of_tag.next(), None, "two records have the tag");
    one
}

fn is_reaped(pid: i32) -> bool {
    fs::metadata(format!("/proc/{pid}")).is_err()
}

#[test]
fn a_reexec_in_place_reports_every_status_and_usage() {
    let service = Service::start(&[]);
    let mut client = service.client();
    let before = spawn_waiting(&service, &mut client, "before", 3);
    spawn_waiting(&service, &mut client, "after", 4);
    // These end at any time during the reexecs.
    for nth in 0..50 {
        client
            .spawn(sh(
                &format!("sleep 0.{nth:02}; exit {nth}"),
                &format!("n{nth}"),
            ))
            .expect("it starts");
    }
    release(&service, "before");
    eventually("it has ended", || is_reaped(before));
    for _ in 0..3 {
        kill_process(service.pid(), Signal::USR2).expect("it is alive");
        // The connection to the old image ends. The socket stays in place.
        let ended = (0..10_000).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            client
                .ask(exitring_protocol::Request::Stats(Default::default()))
                .is_err()
        });
        assert!(ended, "the service did not reexec");
        client = service.client();
    }
    // The service still has its locks.
    let other = tempfile::TempDir::new().expect("a directory can be created");
    for (socket, state) in [
        (service.socket(), other.path().join("state")),
        (
            other.path().join("socket"),
            service.directory.path().join("state"),
        ),
    ] {
        let mut second = Command::new(env!("CARGO_BIN_EXE_exitring"));
        second
            .arg("serve")
            .arg("--socket")
            .arg(socket)
            .arg("--state")
            .arg(state);
        let second = second.output().expect("it starts");
        let error = String::from_utf8_lossy(&second.stderr);
        assert!(error.contains("another service has"), "{error}");
    }
    release(&service, "after");
    eventually("all have ended", || counts(&mut client).watched == 0);
    let records = stored_records(&service, 0);
    assert_eq!(records.len(), 52);
    assert_eq!(by_tag(&records, "before").outcome, Outcome::Exited(3));
    assert_eq!(by_tag(&records, "after").outcome, Outcome::Exited(4));
    for nth in 0..50 {
        let record = by_tag(&records, &format!("n{nth}"));
        assert_eq!(record.outcome, Outcome::Exited(nth));
        assert!(record.usage.is_some());
    }
    // There are no zombies.
    let children = format!("/proc/{0}/task/{0}/children", service.process.id());
    assert_eq!(
        fs::read_to_string(children).expect("it is readable").trim(),
        ""
    );
}

#[test]
fn a_restart_reports_what_the_kernel_still_knows() {
    let mut service = Service::start(&[]);
    let mut client = service.client();
    let while_down = spawn_waiting(&service, &mut client, "while-down", 5);
    spawn_waiting(&service, &mut client, "afterwards", 6);
    let mut others = Command::new("cat")
        .stdin(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    let watch = Watch {
        until: WatchFor::Reaped,
        tag: "others".into(),
        ..watch_of(others.id())
    };
    client.watch(watch).expect("it is alive");
    client.spawn(sh("exit 1", "early")).expect("it starts");
    eventually("it is recorded", || counts(&mut client).last_seq == 1);
    let early = by_tag(&stored_records(&service, 0), "early");
    service.kill();
    release(&service, "while-down");
    eventually("its new parent has reaped it", || is_reaped(while_down));
    service.start_again();
    let mut client = service.client();
    client.subscribe(2).expect("it subscribes");
    let down = next_record(&mut client);
    assert_eq!(down.tag, "while-down");
    assert_eq!(down.outcome, Outcome::Unknown(Unknown::ServiceDown));
    release(&service, "afterwards");
    let afterwards = next_record(&mut client);
    assert_eq!(afterwards.tag, "afterwards");
    // By PIDFD_INFO_EXIT, once its new parent has reaped it (Linux 6.15).
    assert_eq!(afterwards.outcome, Outcome::Exited(6));
    drop(others.stdin.take());
    others.wait().expect("it is a child");
    let others = next_record(&mut client);
    assert_eq!(
        (others.tag.as_str(), others.outcome),
        ("others", Outcome::Exited(0))
    );
    let records = stored_records(&service, 0);
    assert_eq!(by_tag(&records, "early"), early);
    assert_eq!(records.len(), 4);
}

#[test]
fn a_reused_pid_is_not_taken_for_the_old_process() {
    let mut service = Service::start(&[]);
    let mut client = service.client();
    let pid = spawn_waiting(&service, &mut client, "gone", 5);
    service.kill();
    release(&service, "gone");
    eventually("it was reaped", || is_reaped(pid));
    // As if this process had reused its pid.
    let state = rusqlite::Connection::open(service.directory.path().join("state/exits.sqlite"));
    let changed = state
        .expect("it is a database")
        .execute("UPDATE watches SET pid = ?", [std::process::id()]);
    assert_eq!(changed.expect("it can be written"), 1);
    service.start_again();
    let mut client = service.client();
    client.subscribe(0).expect("it subscribes");
    assert_eq!(
        next_record(&mut client).outcome,
        Outcome::Unknown(Unknown::ServiceDown)
    );
}

#[test]
fn after_a_boot_no_watch_is_live() {
    let mut service = Service::start(&[]);
    let mut client = service.client();
    let watched = client
        .watch(watch_of(std::process::id()))
        .expect("this process is alive");
    service.kill();
    let state = rusqlite::Connection::open(service.directory.path().join("state/exits.sqlite"));
    let changed = state
        .expect("it is a database")
        .execute("UPDATE watches SET boot = 'another'", []);
    assert_eq!(changed.expect("it can be written"), 1);
    service.start_again();
    let mut client = service.client();
    client.subscribe(0).expect("it subscribes");
    let record = next_record(&mut client);
    assert_eq!(record.watch, watched.watch);
    assert_eq!(record.outcome, Outcome::Unknown(Unknown::ServiceDown));
}

#[test]
fn a_timeout_survives_a_restart() {
    let mut service = Service::start(&[]);
    let mut client = service.client();
    let spawn = exitring_protocol::Spawn {
        timeout_ms: Some(400),
        ..sh("sleep 1000", "")
    };
    client.spawn(spawn).expect("it starts");
    service.kill();
    service.start_again();
    let mut client = service.client();
    client.subscribe(0).expect("it subscribes");
    let record = next_record(&mut client);
    let signal = libc::SIGTERM;
    assert_eq!(
        record.outcome,
        Outcome::Signaled {
            signal,
            core_dumped: false
        }
    );
    assert!(record.timed_out);
}

#[test]
fn a_second_service_on_the_same_socket_or_state_is_refused() {
    let mut service = Service::start(&[]);
    let other = tempfile::TempDir::new().expect("a directory can be created");
    let serve = |socket: &std::path::Path, state: &std::path::Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_exitring"));
        command
            .arg("serve")
            .arg("--socket")
            .arg(socket)
            .arg("--state")
            .arg(state);
        let output = command.output().expect("it starts");
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).expect("it is UTF-8")
    };
    let error = serve(&service.socket(), &other.path().join("state"));
    assert!(error.contains("has the socket"), "{error}");
    let error = serve(
        &other.path().join("socket"),
        &service.directory.path().join("state"),
    );
    assert!(error.contains("has the state directory"), "{error}");
    fs::write(other.path().join("file"), "content").expect("it can be written");
    let error = serve(&other.path().join("file"), &other.path().join("state"));
    assert!(error.contains("not a socket"), "{error}");
    assert_eq!(
        fs::read_to_string(other.path().join("file")).expect("it exists"),
        "content"
    );
    // The socket of a program that takes no lock.
    let foreign = other.path().join("foreign");
    let _listener = std::os::unix::net::UnixListener::bind(&foreign).expect("it can be bound");
    let error = serve(&foreign, &other.path().join("state"));
    assert!(error.contains("another process listens"), "{error}");
    assert!(service.counts().clients >= 1);
    // The socket file of a killed service is replaced.
    service.kill();
    assert!(service.socket().exists());
    service.start_again();
    service.terminate();
    assert!(!service.socket().exists());
}

#[test]
fn repeated_reexec_requests_keep_the_service_running() {
    use std::os::unix::process::CommandExt;
    let mut service = Service::start(&[]);
    service.terminate();
    // Started by a link, which the test can delete.
    let program = service.directory.path().join("program");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_exitring"), &program)
        .expect("it can be created");
    let mut command = Command::new(&program);
    command.args(service.command().get_args());
    command.env("RUST_LOG", "off");
    let limit = || {
        let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        limit.current = Some(321);
        rustix::process::setrlimit(rustix::process::Resource::Nofile, limit)?;
        Ok(())
    };
    // SAFETY: the closure only makes system calls.
    unsafe { command.pre_exec(limit) };
    service.process = command.spawn().expect("it starts");
    service.wait_until_it_answers();
    let descriptors = |name: &str| {
        let out = service.directory.path().join(name);
        let spawn = exitring_protocol::Spawn {
            stdout: Some(out.clone()),
            ..sh("ulimit -Sn", name)
        };
        let mut client = service.client();
        client.subscribe(u64::MAX).expect("it subscribes");
        client.spawn(spawn).expect("it starts");
        next_record(&mut client);
        fs::read_to_string(out).expect("it was written")
    };
    assert_eq!(descriptors("before").trim(), "321");
    for _ in 0..60 {
        kill_process(service.pid(), Signal::USR2).expect("it is alive");
        std::thread::sleep(std::time::Duration::from_millis(4));
    }
    service.wait_until_it_answers();
    // The last reexec may not be finished.
    let mut after = None;
    eventually("it answers until the process has ended", || {
        let answered =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| descriptors("after")));
        after = answered.ok();
        after.is_some()
    });
    assert_eq!(after.expect("it exists").trim(), "321");
    // Without a program to execute, the service keeps running.
    fs::remove_file(&program).expect("it exists");
    let mut client = service.client();
    kill_process(service.pid(), Signal::USR2).expect("it is alive");
    for _ in 0..100 {
        counts(&mut client);
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

#[test]
fn programs_with_their_own_environment_share_one_restore_timeout() {
    let mut service = Service::start(&[]);
    let mut client = service.client();
    // One after the other, their timeouts would exceed that of this test.
    let spawn = || {
        client
            .spawn(sh("exec env -i sleep 1000", ""))
            .expect("it starts")
    };
    let pids: Vec<_> = std::iter::repeat_with(spawn)
        .take(20)
        .map(|its| its.pid)
        .collect();
    let sleeps = |pid: &i32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm"));
        name.is_ok_and(|name| name.trim() == "sleep")
    };
    eventually("all have executed sleep", || pids.iter().all(sleeps));
    service.kill();
    service.start_again();
    let mut client = service.client();
    assert_eq!(counts(&mut client).watched, 20);
    let exitring_protocol::Answer::Live(page) = client
        .ask(exitring_protocol::Request::List(Default::default()))
        .expect("it returns a list")
    else {
        panic!("no list");
    };
    for live in page.watches {
        let signal = exitring_protocol::Signal {
            watch: live.watch,
            signal: libc::SIGKILL,
            group: false,
        };
        client
            .ask(exitring_protocol::Request::Signal(signal))
            .expect("it is alive");
    }
    eventually("all have ended", || counts(&mut client).watched == 0);
}

#[test]
fn a_restart_during_the_grace_sends_no_second_sigterm_and_kills_in_time() {
    let mut service = Service::start(&[]);
    let mut client = service.client();
    let received = service.directory.path().join("received");
    let script = format!(
        "trap 'echo TERM >> {}' TERM; while :; do sleep 0.02; done",
        received.display()
    );
    let spawn = exitring_protocol::Spawn {
        timeout_ms: Some(200),
        grace_ms: Some(2_000),
        ..sh(&script, "")
    };
    client.spawn(spawn).expect("it starts");
    let state = service.directory.path().join("state/exits.sqlite");
    let state = rusqlite::Connection::open(state).expect("it is a database");
    eventually("the time of SIGTERM is stored", || {
        let stored = "SELECT count(*) FROM watches WHERE terminated_monotonic_ms > 0";
        state.query_row(stored, [], |row| row.get(0)) == Ok(1)
    });
    drop(state);
    service.kill();
    service.start_again();
    let mut client = service.client();
    client.subscribe(0).expect("it subscribes");
    let record = next_record(&mut client);
    assert!(record.timed_out);
    // Since Linux 6.15, the status of an orphan is known.
    if let Outcome::Signaled { signal, .. } = record.outcome {
        assert_eq!(signal, libc::SIGKILL);
    }
    assert_eq!(fs::read_to_string(received).expect("it exists"), "TERM\n");
}
