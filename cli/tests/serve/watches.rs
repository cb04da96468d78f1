//! Watches: of existing processes, with timeouts, cancelled, listed, and signalled.

use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use exitring_protocol::{
    Answer, Client, Code, List, Outcome, Request, Signal, Spawn, Unwatch, Watch, WatchFor,
};
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, getrlimit, pidfd_open, prlimit};

use crate::service::{
    EXITED_0, Service, counts, error_code, eventually, next_record, sh, stored_records, watch_of,
};

fn signal(client: &mut Client, watch: u64, signal: i32, group: bool) -> Result<Answer, Code> {
    let request = Signal {
        watch,
        signal,
        group,
    };
    client
        .ask(Request::Signal(request))
        .map_err(|error| error.code().expect("with a code"))
}

#[test]
fn a_timeout_sends_sigterm_then_sigkill_to_the_group() {
    let service = Service::start(&[]);
    let mut client = service.client();
    client.subscribe(0).expect("it subscribes");
    let timed = |script: &str| Spawn {
        timeout_ms: Some(50),
        grace_ms: Some(50),
        ..sh(script, script)
    };
    client.spawn(timed("sleep 1000 & wait")).expect("it starts");
    // On a busy machine the shell takes a while to get to its trap.
    client
        .spawn(Spawn {
            timeout_ms: Some(2000),
            ..timed("trap '' TERM; while :; do sleep 1000; done")
        })
        .expect("it starts");
    client
        .spawn(Spawn {
            timeout_ms: Some(u64::MAX),
            ..sh("exit 0", "late")
        })
        .expect("it starts");
    let mut records: Vec<_> = (0..3).map(|_| next_record(&mut client)).collect();
    records.sort_by_key(|record| record.watch);
    let signaled = |signal| Outcome::Signaled {
        signal,
        core_dumped: false,
    };
    assert_eq!(records[0].outcome, signaled(libc::SIGTERM));
    assert_eq!(records[1].outcome, signaled(libc::SIGKILL));
    assert!(records[0].timed_out && records[1].timed_out);
    assert!(records[2].outcome == EXITED_0 && !records[2].timed_out);
}

#[test]
fn a_process_of_another_parent_is_watched_by_pid_or_pidfd_until_exit_or_reap() {
    let service = Service::start(&[]);
    let mut client = service.client();
    client.subscribe(0).expect("it subscribes");
    let mut child = Command::new("sh")
        .args(["-c", "read line; exit 7"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("it starts");
    let ended = client.watch(watch_of(child.id())).expect("it is alive");
    let reaped = Watch {
        until: WatchFor::Reaped,
        ..watch_of(child.id())
    };
    let reaped = client.watch(reaped).expect("it is alive");
    let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).expect("it is alive");
    let by_pidfd = Watch {
        tag: "by pidfd".into(),
        ..Watch::default()
    };
    let by_pidfd = client
        .watch_pidfd(pidfd.as_fd(), by_pidfd)
        .expect("it is alive");
    assert_eq!(by_pidfd.pid, child.id() as i32);
    let file = fs::File::open("/dev/null").expect("it exists");
    // The error ends the connection.
    let mut other = service.client();
    let no_pidfd = other.watch_pidfd(file.as_fd(), Watch::default());
    assert_eq!(error_code(no_pidfd), Code::NotAPidfd);

    child
        .stdin
        .take()
        .expect("it is piped")
        .write_all(b"\n")
        .expect("it reads");
    let mut first = [
        next_record(&mut client).watch,
        next_record(&mut client).watch,
    ];
    first.sort_unstable();
    // The parent reaps it only now.
    assert_eq!(first, [ended.watch, by_pidfd.watch]);
    child.wait().expect("it is a child");
    let last = next_record(&mut client);
    assert_eq!(last.watch, reaped.watch);
    assert!(!last.spawned);
    assert_eq!(last.outcome, Outcome::Exited(7));
    assert_eq!(
        error_code(client.watch_pidfd(pidfd.as_fd(), Watch::default())),
        Code::NoSuchProcess
    );
}

#[test]
fn a_cancelled_watch_leaves_no_record() {
    let service = Service::start(&[]);
    let mut client = service.client();
    let mut child = Command::new("cat")
        .stdin(Stdio::piped())
        .spawn()
        .expect("it starts");
    let first = client.watch(watch_of(child.id())).expect("it is alive");
    let second = client.watch(watch_of(child.id())).expect("it is alive");
    let unwatch = |watch| Request::Unwatch(Unwatch { watch });
    client.ask(unwatch(first.watch)).expect("it is live");
    assert_eq!(
        error_code(client.ask(unwatch(first.watch))),
        Code::NoSuchWatch
    );
    drop(child.stdin.take());
    child.wait().expect("it is a child");
    eventually("it is recorded", || counts(&mut client).last_seq == 1);
    let watches: Vec<_> = stored_records(&service, 0)
        .iter()
        .map(|record| record.watch)
        .collect();
    assert_eq!(watches, [second.watch]);
    let spawned = client.spawn(sh("sleep 1000", "")).expect("it starts");
    assert_eq!(error_code(client.ask(unwatch(spawned.watch))), Code::Denied);
    signal(&mut client, spawned.watch, libc::SIGKILL, false).expect("it is alive");
}

#[test]
fn a_signal_reaches_only_the_process_or_its_group() {
    let service = Service::start(&[]);
    let mut client = service.client();
    client.subscribe(0).expect("it subscribes");
    let ready = service.directory.path().join("ready");
    let mut spawn = sh("trap 'exit 5' USR1; sleep 1000 & echo $!; wait", "");
    spawn.stdout = Some(ready.clone());
    let first = client.spawn(spawn).expect("it starts");
    let mut sleeper = 0;
    eventually("it is ready", || {
        let said = fs::read_to_string(&ready).unwrap_or_default();
        sleeper = said.trim().parse().unwrap_or(0);
        sleeper > 0
    });
    assert_eq!(
        signal(&mut client, first.watch, 99, false),
        Err(Code::OutOfRange)
    );
    signal(&mut client, first.watch, libc::SIGUSR1, false).expect("it is alive");
    let ended = next_record(&mut client);
    assert_eq!(ended.outcome, Outcome::Exited(5));
    assert_eq!(
        signal(&mut client, first.watch, 9, false),
        Err(Code::NoSuchWatch)
    );
    // The signal was not for its child, which is alive.
    let sleeper = Pid::from_raw(sleeper).expect("it is a pid");
    rustix::process::kill_process(sleeper, rustix::process::Signal::KILL).expect("it is alive");

    let second = client
        .spawn(sh("sleep 1000 & sleep 1000; exit 0", ""))
        .expect("it starts");
    signal(&mut client, second.watch, libc::SIGTERM, true).expect("it is alive");
    let ended = next_record(&mut client);
    let signal = libc::SIGTERM;
    assert_eq!(
        ended.outcome,
        Outcome::Signaled {
            signal,
            core_dumped: false
        }
    );
}

#[test]
fn live_watches_are_listed_in_pages_per_client() {
    let service = Service::start(&[]);
    let (mut a, mut b) = (service.named(Some("a")), service.named(Some("b")));
    let own = std::process::id();
    let of_a: Vec<_> = (0..5)
        .map(|_| a.watch(watch_of(own)).expect("this process is alive").watch)
        .collect();
    let of_b = b.watch(watch_of(own)).expect("this process is alive").watch;
    let list = |client: &mut Client, after, limit| match client
        .ask(Request::List(List { after, limit }))
        .expect("it returns a list")
    {
        Answer::Live(page) => page,
        other => panic!("{other:?}"),
    };
    let ids = |page: &exitring_protocol::Page| {
        page.watches
            .iter()
            .map(|live| live.watch)
            .collect::<Vec<_>>()
    };
    let page = list(&mut a, 0, Some(2));
    assert_eq!((ids(&page), page.more), (of_a[..2].to_vec(), true));
    let page = list(&mut a, of_a[1], None);
    assert_eq!((ids(&page), page.more), (of_a[2..].to_vec(), false));
    assert_eq!(ids(&list(&mut b, 0, None)), [of_b]);
    assert_eq!(list(&mut service.client(), 0, None).watches.len(), 6);
    assert_eq!(
        error_code(b.ask(Request::Unwatch(Unwatch { watch: of_a[0] }))),
        Code::NoSuchWatch
    );
}

#[test]
fn a_timeout_ends_a_process_whose_first_thread_has_ended() {
    if Command::new("python3").arg("--version").output().is_err() {
        return println!("not tested: python3 is not installed");
    }
    let service = Service::start(&[]);
    let mut client = service.client();
    client.subscribe(0).expect("it subscribes");
    let program = "import ctypes, threading, time\n\
                   threading.Thread(target=time.sleep, args=(1000,)).start()\n\
                   ctypes.CDLL(None).pthread_exit(None)";
    let spawn = Spawn {
        timeout_ms: Some(1500),
        ..sh(&format!("exec python3 -c '{program}'"), "")
    };
    client.spawn(spawn).expect("it starts");
    let record = next_record(&mut client);
    assert!(record.timed_out, "{record:?}");
}

#[test]
fn a_timeout_is_late_but_not_lost_while_no_descriptor_is_free() {
    let service = Service::start(&[]);
    let mut client = service.client();
    client.subscribe(0).expect("it subscribes");
    let spawn = Spawn {
        timeout_ms: Some(500),
        ..sh("exec sleep 1000", "")
    };
    client.spawn(spawn).expect("it starts");
    // The hard limit is that of this process, and stays.
    let set = |current| {
        let limit = Rlimit {
            current,
            ..getrlimit(Resource::Nofile)
        };
        prlimit(Some(service.pid()), Resource::Nofile, limit).expect("it is permitted");
    };
    set(Some(3));
    std::thread::sleep(Duration::from_millis(1000));
    set(getrlimit(Resource::Nofile).maximum);
    let record = next_record(&mut client);
    assert!(record.timed_out, "{record:?}");
}
