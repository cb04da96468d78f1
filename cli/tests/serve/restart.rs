//! The service ends, one way or another, and goes on.

use std::fs;
use std::process::Command;

use exitring_protocol::{Client, Moment, Outcome, Record, Unknown, Watch};
use rustix::process::{Signal, kill_process};

use crate::service::{Service, counts, eventually, kept, record, sh, watch_of};

/// Starts what waits for a file, and then exits with a code.
fn waits_for(service: &Service, client: &mut Client, name: &str, code: i32) -> i32 {
    let file = service.folder.path().join(name);
    let script = format!(
        "while [ ! -e {} ]; do sleep 0.02; done; exit {code}",
        file.display()
    );
    client.spawn(sh(&script, name)).expect("it starts").pid
}

fn let_go(service: &Service, name: &str) {
    fs::write(service.folder.path().join(name), "").expect("it can be written");
}

fn by_tag(records: &[Record], tag: &str) -> Record {
    let mut of_tag = records.iter().filter(|record| record.tag == tag);
    let one = of_tag.next().expect("there is one").clone();
    assert_eq!(of_tag.next(), None, "there are two");
    one
}

fn is_gone(pid: i32) -> bool {
    fs::metadata(format!("/proc/{pid}")).is_err()
}

#[test]
fn executed_anew_in_place_every_status_and_usage_is_told() {
    let service = Service::start(&[]);
    let mut client = service.client();
    let before = waits_for(&service, &mut client, "before", 3);
    waits_for(&service, &mut client, "after", 4);
    // Ends somewhere on the way.
    for nth in 0..50 {
        client
            .spawn(sh(
                &format!("sleep 0.{nth:02}; exit {nth}"),
                &format!("n{nth}"),
            ))
            .expect("it starts");
    }
    let_go(&service, "before");
    eventually("it has ended", || is_gone(before));
    for _ in 0..3 {
        kill_process(service.pid(), Signal::USR2).expect("it lives");
        // The old one's connection ends, and the socket has been there all the time.
        let ended = (0..10_000).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            client
                .ask(exitring_protocol::Request::Stats(Default::default()))
                .is_err()
        });
        assert!(ended, "it was not executed anew");
        client = service.client();
    }
    // It has its locks still.
    let other = tempfile::TempDir::new().expect("a folder can be made");
    for (socket, state) in [
        (service.socket(), other.path().join("state")),
        (
            other.path().join("socket"),
            service.folder.path().join("state"),
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
    let_go(&service, "after");
    eventually("all have ended", || counts(&mut client).watched == 0);
    let records = kept(&service, 0);
    assert_eq!(records.len(), 52);
    assert_eq!(by_tag(&records, "before").outcome, Outcome::Exited(3));
    assert_eq!(by_tag(&records, "after").outcome, Outcome::Exited(4));
    for nth in 0..50 {
        let record = by_tag(&records, &format!("n{nth}"));
        assert_eq!(record.outcome, Outcome::Exited(nth));
        assert!(record.usage.is_some());
    }
    // No zombie is left.
    let children = format!("/proc/{0}/task/{0}/children", service.process.id());
    assert_eq!(
        fs::read_to_string(children)
            .expect("the kernel tells")
            .trim(),
        ""
    );
}

#[test]
fn killed_and_started_again_it_tells_what_the_kernel_still_tells_and_what_it_cannot() {
    let mut service = Service::start(&[]);
    let mut client = service.client();
    let while_down = waits_for(&service, &mut client, "while-down", 5);
    waits_for(&service, &mut client, "afterwards", 6);
    let mut others = Command::new("cat")
        .stdin(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    let watch = Watch {
        until: Moment::Reaped,
        tag: "others".into(),
        ..watch_of(others.id())
    };
    client.watch(watch).expect("it lives");
    client.spawn(sh("exit 1", "early")).expect("it starts");
    eventually("it is recorded", || counts(&mut client).last_seq == 1);
    let early = by_tag(&kept(&service, 0), "early");
    service.kill();
    let_go(&service, "while-down");
    eventually("whoever inherited it has reaped it", || is_gone(while_down));
    service.start_again();
    let mut client = service.client();
    client.subscribe(2).expect("it may be had");
    let down = record(&mut client);
    assert_eq!(down.tag, "while-down");
    assert_eq!(down.outcome, Outcome::Unknown(Unknown::ServiceDown));
    let_go(&service, "afterwards");
    let afterwards = record(&mut client);
    assert_eq!(afterwards.tag, "afterwards");
    // By PIDFD_INFO_EXIT, from whoever inherited it; Linux 6.15.
    assert_eq!(afterwards.outcome, Outcome::Exited(6));
    drop(others.stdin.take());
    others.wait().expect("it is ours");
    let others = record(&mut client);
    assert_eq!(
        (others.tag.as_str(), others.outcome),
        ("others", Outcome::Exited(0))
    );
    let records = kept(&service, 0);
    assert_eq!(by_tag(&records, "early"), early);
    assert_eq!(records.len(), 4);
}

#[test]
fn a_pid_that_is_another_process_by_now_is_not_taken_for_the_old_one() {
    let mut service = Service::start(&[]);
    let mut client = service.client();
    let pid = waits_for(&service, &mut client, "gone", 5);
    service.kill();
    let_go(&service, "gone");
    eventually("it was reaped", || is_gone(pid));
    // As if its number had been given to us.
    let state = rusqlite::Connection::open(service.folder.path().join("state/exits.sqlite"));
    let changed = state
        .expect("it is a database")
        .execute("UPDATE watches SET pid = ?", [std::process::id()]);
    assert_eq!(changed.expect("it can be written"), 1);
    service.start_again();
    let mut client = service.client();
    client.subscribe(0).expect("it may be had");
    assert_eq!(
        record(&mut client).outcome,
        Outcome::Unknown(Unknown::ServiceDown)
    );
}

#[test]
fn a_boot_later_nothing_lives() {
    let mut service = Service::start(&[]);
    let mut client = service.client();
    let watched = client.watch(watch_of(std::process::id())).expect("we live");
    service.kill();
    let state = rusqlite::Connection::open(service.folder.path().join("state/exits.sqlite"));
    let changed = state
        .expect("it is a database")
        .execute("UPDATE watches SET boot = 'another'", []);
    assert_eq!(changed.expect("it can be written"), 1);
    service.start_again();
    let mut client = service.client();
    client.subscribe(0).expect("it may be had");
    let record = record(&mut client);
    assert_eq!(record.watch, watched.watch);
    assert_eq!(record.outcome, Outcome::Unknown(Unknown::ServiceDown));
}

#[test]
fn a_time_out_holds_over_a_restart() {
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
    client.subscribe(0).expect("it may be had");
    let record = record(&mut client);
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
fn of_two_services_on_one_socket_or_one_state_the_second_is_refused() {
    let mut service = Service::start(&[]);
    let other = tempfile::TempDir::new().expect("a folder can be made");
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
        String::from_utf8(output.stderr).expect("it is text")
    };
    let error = serve(&service.socket(), &other.path().join("state"));
    assert!(error.contains("has the socket"), "{error}");
    let error = serve(
        &other.path().join("socket"),
        &service.folder.path().join("state"),
    );
    assert!(error.contains("has the state folder"), "{error}");
    fs::write(other.path().join("file"), "mine").expect("it can be written");
    let error = serve(&other.path().join("file"), &other.path().join("state"));
    assert!(error.contains("no socket"), "{error}");
    assert_eq!(
        fs::read_to_string(other.path().join("file")).expect("it is there"),
        "mine"
    );
    // Somebody else's socket, who takes no locks.
    let foreign = other.path().join("foreign");
    let _listener = std::os::unix::net::UnixListener::bind(&foreign).expect("it can be bound");
    let error = serve(&foreign, &other.path().join("state"));
    assert!(error.contains("somebody answers"), "{error}");
    assert!(service.counts().clients >= 1);
    // What a killed one has left is replaced.
    service.kill();
    assert!(service.socket().exists());
    service.start_again();
    service.terminate();
    assert!(!service.socket().exists());
}

#[test]
fn told_again_and_again_to_execute_itself_anew_it_does_and_lives() {
    use std::os::unix::process::CommandExt;
    let mut service = Service::start(&[]);
    service.terminate();
    // By a name that can be taken away.
    let program = service.folder.path().join("program");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_exitring"), &program).expect("it can be made");
    let mut command = Command::new(&program);
    command.args(service.command().get_args());
    command.env("RUST_LOG", "off");
    let limit = || {
        let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        limit.current = Some(321);
        rustix::process::setrlimit(rustix::process::Resource::Nofile, limit)?;
        Ok(())
    };
    // SAFETY: it makes system calls only.
    unsafe { command.pre_exec(limit) };
    service.process = command.spawn().expect("it starts");
    service.wait_until_it_answers();
    let descriptors = |name: &str| {
        let out = service.folder.path().join(name);
        let spawn = exitring_protocol::Spawn {
            stdout: Some(out.clone()),
            ..sh("ulimit -Sn", name)
        };
        let mut client = service.client();
        client.subscribe(u64::MAX).expect("it may be had");
        client.spawn(spawn).expect("it starts");
        record(&mut client);
        fs::read_to_string(out).expect("it was written")
    };
    assert_eq!(descriptors("before").trim(), "321");
    for _ in 0..60 {
        kill_process(service.pid(), Signal::USR2).expect("it lives");
        std::thread::sleep(std::time::Duration::from_millis(4));
    }
    service.wait_until_it_answers();
    // The last one may be on its way still.
    let mut after = None;
    eventually("it answers and goes on to", || {
        let answered =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| descriptors("after")));
        after = answered.ok();
        after.is_some()
    });
    assert_eq!(after.expect("it is there").trim(), "321");
    // With nothing to execute it goes on as it is.
    fs::remove_file(&program).expect("it is there");
    let mut client = service.client();
    kill_process(service.pid(), Signal::USR2).expect("it lives");
    for _ in 0..100 {
        counts(&mut client);
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

#[test]
fn programs_with_an_environment_of_their_own_are_waited_for_all_at_once() {
    let mut service = Service::start(&[]);
    let mut client = service.client();
    // Each by itself, it would take longer than anything is waited for.
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
    eventually("all have it", || pids.iter().all(sleeps));
    service.kill();
    service.start_again();
    let mut client = service.client();
    assert_eq!(counts(&mut client).watched, 20);
    let exitring_protocol::Answer::Live(page) = client
        .ask(exitring_protocol::Request::List(Default::default()))
        .expect("it lists")
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
            .expect("it lives");
    }
    eventually("all have ended", || counts(&mut client).watched == 0);
}
