//! What is watched, signalled and timed out, and the records of it.

use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use exitring_protocol::{
    Answer, Client, Code, List, Moment, Notice, Outcome, Request, Signal, Spawn, Unwatch, Watch,
};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::service::{
    EXITED_0, Service, ask_often, counts, eventually, kept, record, refused, sh, watch_of,
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
fn a_time_out_ends_the_group_first_gently_then_not() {
    let service = Service::start(&[]);
    let mut client = service.client();
    client.subscribe(0).expect("it may be had");
    let timed = |script: &str| Spawn {
        timeout_ms: Some(50),
        grace_ms: Some(50),
        ..sh(script, script)
    };
    client.spawn(timed("sleep 1000 & wait")).expect("it starts");
    client
        .spawn(timed("trap '' TERM; while :; do sleep 1000; done"))
        .expect("it starts");
    client
        .spawn(Spawn {
            timeout_ms: Some(u64::MAX),
            ..sh("exit 0", "late")
        })
        .expect("it starts");
    let mut records: Vec<_> = (0..3).map(|_| record(&mut client)).collect();
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
fn what_others_reap_is_watched_by_pid_and_by_pidfd_for_either_moment() {
    let service = Service::start(&[]);
    let mut client = service.client();
    client.subscribe(0).expect("it may be had");
    let mut child = Command::new("sh")
        .args(["-c", "read line; exit 7"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("it starts");
    let ended = client.watch(watch_of(child.id())).expect("it lives");
    let reaped = Watch {
        until: Moment::Reaped,
        ..watch_of(child.id())
    };
    let reaped = client.watch(reaped).expect("it lives");
    let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).expect("it lives");
    let by_pidfd = Watch {
        tag: "by pidfd".into(),
        ..Watch::default()
    };
    let by_pidfd = client
        .watch_pidfd(pidfd.as_fd(), by_pidfd)
        .expect("it lives");
    assert_eq!(by_pidfd.pid, child.id() as i32);
    let file = fs::File::open("/dev/null").expect("it is there");
    // It ends its connection.
    let mut other = service.client();
    let no_pidfd = other.watch_pidfd(file.as_fd(), Watch::default());
    assert_eq!(refused(no_pidfd), Code::NotAPidfd);

    child
        .stdin
        .take()
        .expect("it is piped")
        .write_all(b"\n")
        .expect("it reads");
    let mut first = [record(&mut client).watch, record(&mut client).watch];
    first.sort_unstable();
    // The parent is told, and reaps only now.
    assert_eq!(first, [ended.watch, by_pidfd.watch]);
    child.wait().expect("it is ours");
    let last = record(&mut client);
    assert_eq!(last.watch, reaped.watch);
    assert!(!last.spawned);
    assert_eq!(last.outcome, Outcome::Exited(7));
    assert_eq!(
        refused(client.watch_pidfd(pidfd.as_fd(), Watch::default())),
        Code::NoSuchProcess
    );
}

#[test]
fn what_is_not_watched_any_more_leaves_no_record() {
    let service = Service::start(&[]);
    let mut client = service.client();
    let mut child = Command::new("cat")
        .stdin(Stdio::piped())
        .spawn()
        .expect("it starts");
    let first = client.watch(watch_of(child.id())).expect("it lives");
    let second = client.watch(watch_of(child.id())).expect("it lives");
    let unwatch = |watch| Request::Unwatch(Unwatch { watch });
    client.ask(unwatch(first.watch)).expect("it is live");
    assert_eq!(refused(client.ask(unwatch(first.watch))), Code::NoSuchWatch);
    drop(child.stdin.take());
    child.wait().expect("it is ours");
    eventually("it is recorded", || counts(&mut client).last_seq == 1);
    let watches: Vec<_> = kept(&service, 0)
        .iter()
        .map(|record| record.watch)
        .collect();
    assert_eq!(watches, [second.watch]);
    let spawned = client.spawn(sh("sleep 1000", "")).expect("it starts");
    assert_eq!(refused(client.ask(unwatch(spawned.watch))), Code::Denied);
    signal(&mut client, spawned.watch, libc::SIGKILL, false).expect("it lives");
}

#[test]
fn signals_reach_the_process_or_its_group_and_nothing_else() {
    let service = Service::start(&[]);
    let mut client = service.client();
    client.subscribe(0).expect("it may be had");
    let ready = service.folder.path().join("ready");
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
    signal(&mut client, first.watch, libc::SIGUSR1, false).expect("it lives");
    let ended = record(&mut client);
    assert_eq!(ended.outcome, Outcome::Exited(5));
    assert_eq!(
        signal(&mut client, first.watch, 9, false),
        Err(Code::NoSuchWatch)
    );
    // Its own child was not meant, and lives.
    let sleeper = Pid::from_raw(sleeper).expect("it is a pid");
    rustix::process::kill_process(sleeper, rustix::process::Signal::KILL).expect("it lives");

    let second = client
        .spawn(sh("sleep 1000 & sleep 1000; exit 0", ""))
        .expect("it starts");
    signal(&mut client, second.watch, libc::SIGTERM, true).expect("it lives");
    let ended = record(&mut client);
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
fn live_watches_are_listed_in_pages_each_to_its_own() {
    let service = Service::start(&[]);
    let (mut a, mut b) = (service.named(Some("a")), service.named(Some("b")));
    let own = std::process::id();
    let of_a: Vec<_> = (0..5)
        .map(|_| a.watch(watch_of(own)).expect("we live").watch)
        .collect();
    let of_b = b.watch(watch_of(own)).expect("we live").watch;
    let list = |client: &mut Client, after, limit| match client
        .ask(Request::List(List { after, limit }))
        .expect("it lists")
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
        refused(b.ask(Request::Unwatch(Unwatch { watch: of_a[0] }))),
        Code::NoSuchWatch
    );
}

#[test]
fn records_are_kept_until_acknowledged_by_whose_they_are() {
    let mut service = Service::start(&[]);
    let (mut a, mut b) = (service.named(Some("a")), service.named(Some("b")));
    for client in [&mut a, &mut b] {
        for _ in 0..3 {
            client.spawn(sh("exit 0", "")).expect("it starts");
        }
    }
    eventually("all have ended", || counts(&mut a).last_seq == 6);
    assert_eq!(a.ack(u64::MAX).expect("it is taken"), 3);
    assert_eq!(a.ack(u64::MAX).expect("it is taken"), 0);
    let of_b = kept(&service, 0);
    assert_eq!(of_b.len(), 3);
    assert!(of_b.iter().all(|record| record.client == "b"));
    assert_eq!(b.ack(of_b[1].seq).expect("it is taken"), 2);
    service.kill();
    service.start_again();
    assert_eq!(kept(&service, 0), of_b[2..]);
    let mut b = service.named(Some("b"));
    b.spawn(sh("exit 0", "")).expect("it starts");
    b.subscribe(of_b[2].seq + 1).expect("it may be had");
    // Numbers go on, and what is older than asked for is not sent.
    assert_eq!(record(&mut b).seq, 7);
}

#[test]
fn what_is_dropped_unacknowledged_is_said() {
    let service = Service::start(&["--keep", "5", "--tail", "2"]);
    let mut client = service.client();
    let zombie = Zombie::new();
    for _ in 0..20 {
        client
            .watch(watch_of(zombie.pid()))
            .expect("it is not reaped");
    }
    eventually("all are recorded", || {
        let counts = counts(&mut client);
        counts.last_seq == 20 && counts.records == 5
    });
    assert_eq!(counts(&mut client).dropped, 15);
    client.subscribe(3).expect("it may be had");
    let Notice::Lost(lost) = client.notice().expect("it is said") else {
        panic!("nothing was lost");
    };
    assert_eq!((lost.from, lost.to, lost.count), (3, 15, 15));
    let seqs: Vec<_> = (0..5).map(|_| record(&mut client).seq).collect();
    assert_eq!(seqs, [16, 17, 18, 19, 20]);
    // Who asks for what is there is not bothered.
    client.subscribe(16).expect("it may be had");
    assert_eq!(record(&mut client).seq, 16);
}

/// A child that has ended and is not reaped: each watch of it is a record at once.
pub(crate) struct Zombie(std::process::Child);

impl Zombie {
    pub(crate) fn new() -> Self {
        let mut child = Command::new("true").spawn().expect("it starts");
        let stat = format!("/proc/{}/stat", child.id());
        eventually("it has ended", || {
            fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") Z "))
        });
        let _ = child.stdin.take();
        Self(child)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Zombie {
    fn drop(&mut self) {
        let _ = self.0.wait();
    }
}

#[test]
fn the_commands_watch_and_exits_are_clients() {
    let service = Service::start(&[]);
    let exitring = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_exitring"));
        command
            .args(arguments)
            .arg("--socket")
            .arg(service.socket());
        let output = command.output().expect("it starts");
        let lines = String::from_utf8(output.stdout).expect("it is text");
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
    // The service is its parent, and tells.
    assert_eq!((code, lines.len()), (Some(1), 1));
    assert_eq!(lines[0]["outcome"]["exited"], 3);
    assert_eq!(exitring(&["watch", "-5"]).0, Some(2));
    let (code, lines) = exitring(&["exits", "--ack"]);
    assert_eq!((code, lines.len()), (Some(0), 2));
    let (code, lines) = exitring(&["exits"]);
    assert_eq!((code, lines.len()), (Some(0), 0));
    // Whose last is somebody else's, too, and more than a page.
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
    // It would acknowledge what was not printed.
    let from = (first + 500).to_string();
    let (code, lines) = exitring(&["exits", "--from", &from, "--ack"]);
    assert_eq!((code, lines.len()), (Some(2), 0));
    assert_eq!(counts(&mut client).records, 1001);
}

#[test]
fn of_ten_thousand_exits_at_once_each_is_recorded() {
    const WATCHES: usize = 10_000;
    let service = Service::start(&["--tail", "1000"]);
    let mut client = service.client();
    client.subscribe(0).expect("it may be had");
    let mut child = Command::new("cat")
        .stdin(Stdio::piped())
        .spawn()
        .expect("it starts");
    let watch = |asking: &mut Client| asking.watch(watch_of(child.id())).expect("it lives").watch;
    let watches = ask_often(&service, WATCHES, watch);
    let mut watches: std::collections::BTreeSet<u64> = watches.into_iter().collect();
    assert_eq!(watches.len(), WATCHES);
    drop(child.stdin.take());
    for seq in 1..=WATCHES as u64 {
        let record = record(&mut client);
        assert_eq!(record.seq, seq);
        assert!(watches.remove(&record.watch), "a second record: {record:?}");
    }
    child.wait().expect("it is ours");
    assert_eq!(service.counts().watched, 0);
}

#[test]
fn who_subscribes_again_and_again_gets_whole_lines() {
    let service = Service::start(&[]);
    let mut client = service.client();
    let zombie = Zombie::new();
    for _ in 0..2000 {
        let watch = Watch {
            tag: "x".repeat(256),
            ..watch_of(zombie.pid())
        };
        client.watch(watch).expect("it is not reaped");
    }
    eventually("all are recorded", || counts(&mut client).last_seq == 2000);
    let mut raw = crate::service::Raw::connect(&service);
    raw.hello();
    for id in 0..200 {
        raw.say(format!(r#"{{"id": {id}, "op": "subscribe"}}"#));
    }
    let (mut answered, mut next) = (0, None);
    // Each begins anew, whatever came of the one before.
    while answered < 200 || next != Some(2001) {
        let line = raw.hear().expect("it is a line");
        if let Some(id) = line["id"].as_u64() {
            assert_eq!(id, answered);
            answered += 1;
            next = Some(1);
        } else if line["caught_up"].is_u64() {
            // When all has come, and not before.
            assert_eq!((line["caught_up"].as_u64(), next), (Some(2000), Some(2001)));
        } else {
            assert_eq!(line["exit"]["seq"].as_u64(), next);
            next = next.map(|seq| seq + 1);
        }
    }
}
