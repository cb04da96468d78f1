//! The wall clock is set while the service is down.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use exitring_protocol::{Outcome, Spawn};

use crate::service::{Service, counts, eventually, next_record, sh, stored_records};

const TERMINATED: Outcome = Outcome::Signaled {
    signal: libc::SIGTERM,
    core_dumped: false,
};

/// Builds a library that shifts the wall clock by `SHIFT` seconds.
fn shift(directory: &Path) -> PathBuf {
    let source = directory.join("shift.c");
    let library = directory.join("shift.so");
    let code = r#"
        #define _GNU_SOURCE
        #include <stdlib.h>
        #include <sys/syscall.h>
        #include <time.h>
        #include <unistd.h>
        int clock_gettime(clockid_t clock, struct timespec *time) {
            int result = syscall(SYS_clock_gettime, clock, time);
            const char *shift = getenv("SHIFT");
            if (result == 0 && clock == CLOCK_REALTIME && shift) time->tv_sec += atol(shift);
            return result;
        }"#;
    fs::write(&source, code).expect("it can be written");
    let mut compile = Command::new("cc");
    compile
        .args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(&source);
    assert!(compile.status().expect("there is a C compiler").success());
    library
}

/// Restarts the service with a wall clock that is shifted by some seconds.
fn start_with_clock(service: &mut Service, seconds: i64) {
    let library = shift(service.directory.path());
    let mut command = service.command();
    command
        .env("LD_PRELOAD", library)
        .env("SHIFT", seconds.to_string());
    service.process = command.spawn().expect("it starts");
    service.wait_until_it_answers();
}

fn sleeps(timeout_ms: u64, tag: &str) -> Spawn {
    Spawn {
        timeout_ms: Some(timeout_ms),
        ..sh("exec sleep 1000", tag)
    }
}

#[test]
fn a_wall_clock_set_forward_ends_no_timeout_early_and_drops_no_record() {
    let mut service = Service::start(&["--keep-for", "1h"]);
    let mut client = service.client();
    client.subscribe(0).expect("it subscribes");
    client.spawn(sh("exit 0", "kept")).expect("it starts");
    next_record(&mut client);
    client.spawn(sleeps(3_000_000, "long")).expect("it starts");
    service.terminate();
    start_with_clock(&mut service, 7 * 24 * 3600);
    let mut client = service.client();
    // The earlier deadline comes first.
    client.spawn(sleeps(200, "short")).expect("it starts");
    client.subscribe(0).expect("it subscribes");
    assert_eq!(next_record(&mut client).tag, "kept");
    let short = next_record(&mut client);
    assert_eq!((short.tag.as_str(), short.outcome), ("short", TERMINATED));
    // Records have the time of the shifted wall clock.
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("it is later");
    assert!(u128::from(short.ended_ms) > now.as_millis() + 6 * 24 * 3600 * 1000);
    assert_eq!(counts(&mut client).watched, 1);
    end_all(&service);
}

#[test]
fn a_wall_clock_set_back_delays_no_timeout() {
    let mut service = Service::start(&[]);
    service.client().spawn(sleeps(500, "")).expect("it starts");
    service.terminate();
    start_with_clock(&mut service, -3600);
    let mut client = service.client();
    client.subscribe(0).expect("it subscribes");
    let record = next_record(&mut client);
    assert!(record.timed_out);
    assert_eq!(record.outcome, TERMINATED);
}

#[test]
fn a_version_1_state_is_upgraded_with_its_remaining_timeouts() {
    let mut service = Service::start(&["--keep-for", "1h"]);
    let mut client = service.client();
    client.subscribe(0).expect("it subscribes");
    for tag in ["old", "young"] {
        client.spawn(sh("exit 0", tag)).expect("it starts");
        next_record(&mut client);
    }
    client.spawn(sleeps(3_000_000, "due")).expect("it starts");
    client.spawn(sleeps(3_000_000, "long")).expect("it starts");
    client.spawn(sleeps(u64::MAX, "never")).expect("it starts");
    service.terminate();
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("it is later");
    let now = now.as_millis() as i64;
    let hour = 3_600_000;
    let state = rusqlite::Connection::open(service.directory.path().join("state/exits.sqlite"));
    let state = state.expect("it is a database");
    state
        .execute_batch(&format!(
            "ALTER TABLE watches RENAME COLUMN deadline_monotonic_ms TO deadline_ms;
             ALTER TABLE records RENAME COLUMN age_ms TO ended_ms;
             UPDATE watches SET deadline_ms = {} WHERE tag = 'due';
             UPDATE watches SET deadline_ms = {} WHERE tag = 'long';
             UPDATE watches SET deadline_ms = {} WHERE tag = 'never';
             UPDATE records SET ended_ms = {} WHERE seq = 1;
             UPDATE records SET ended_ms = {now} WHERE seq = 2;
             DELETE FROM meta WHERE name LIKE 'age_%';
             PRAGMA user_version = 1;",
            now - 1,
            now + hour,
            i64::MAX,
            now - 2 * hour,
        ))
        .expect("it can be written");
    drop(state);
    service.start_again();
    let mut client = service.client();
    client.subscribe(2).expect("it subscribes");
    assert_eq!(next_record(&mut client).tag, "young");
    let due = next_record(&mut client);
    assert_eq!((due.tag.as_str(), due.outcome), ("due", TERMINATED));
    assert_eq!(counts(&mut client).watched, 2);
    eventually("the old one is dropped", || {
        !stored_records(&service, 0)
            .iter()
            .any(|record| record.tag == "old")
    });
    end_all(&service);
}

fn end_all(service: &Service) {
    let mut client = service.client();
    let list = exitring_protocol::Request::List(Default::default());
    let Ok(exitring_protocol::Answer::Live(page)) = client.ask(list) else {
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
}
