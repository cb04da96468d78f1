//! Who may do what. These tests are root's: they become somebody else.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use exitring_protocol::{
    Answer, Client, Code, List, Notice, Request, Signal, Spawn, Unwatch, Watch, Watched,
};
use rustix::thread::{Gid, Uid, set_thread_gid, set_thread_uid};

use crate::service::{
    LONG, Raw, Service, anonymous_kib, ask_often, counts, eventually, is_root, record, refused, sh,
    watch_of,
};

const NOBODY: u32 = 65534;

/// On a thread of its own, which becomes another user: the kernel has users by thread.
fn as_nobody<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            set_thread_gid(Gid::from_raw(NOBODY)).expect("these tests need root");
            set_thread_uid(Uid::from_raw(NOBODY)).expect("these tests need root");
            act()
        });
        thread.join().expect("it did not panic")
    })
}

/// Everybody may come as far as the socket.
fn open_folder(service: &Service) {
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(service.folder.path(), open).expect("it is ours");
}

fn connect(service: &Service) -> Client {
    let mut client = Client::connect(service.socket(), None).expect("it answers");
    client.set_timeout(Some(LONG)).expect("it is a time");
    client
}

#[test]
fn the_socket_is_for_its_own_user_unless_told_otherwise() {
    if !is_root("the_socket_is_for_its_own_user_unless_told_otherwise") {
        return;
    }
    let service = Service::start(&[]);
    open_folder(&service);
    let mode = |name: &str| {
        let found = fs::metadata(service.folder.path().join(name));
        found.expect("it is there").permissions().mode() & 0o777
    };
    assert_eq!((mode("socket"), mode("state")), (0o600, 0o700));
    let error = as_nobody(|| {
        Client::connect(service.socket(), None)
            .err()
            .expect("it is refused")
    });
    let exitring_protocol::ClientError::Io(error) = error else {
        panic!("{error}");
    };
    assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
}

#[test]
fn another_user_sees_starts_and_signals_only_its_own() {
    if !is_root("another_user_sees_starts_and_signals_only_its_own") {
        return;
    }
    let service = Service::start(&["--mode", "0666"]);
    open_folder(&service);
    let mut root = service.client();
    let roots = root.spawn(sh("sleep 1000", "root's")).expect("it starts");
    let place = service.folder.path().join("nobodys");
    fs::create_dir(&place).expect("it can be made");
    std::os::unix::fs::chown(&place, Some(NOBODY), Some(NOBODY)).expect("we are root");
    as_nobody(|| {
        let mut nobody = connect(&service);
        assert_eq!(nobody.welcome().uid, NOBODY);
        nobody.subscribe(0).expect("it may be had");
        // Root's process and root's watch are not there for it.
        assert_eq!(
            refused(nobody.watch(watch_of(roots.pid as u32))),
            Code::Denied
        );
        assert_eq!(
            refused(nobody.watch(watch_of(std::process::id()))),
            Code::Denied
        );
        let signal = |watch| {
            Request::Signal(Signal {
                watch,
                signal: 9,
                group: false,
            })
        };
        assert_eq!(refused(nobody.ask(signal(roots.watch))), Code::NoSuchWatch);
        let unwatch = Request::Unwatch(Unwatch { watch: roots.watch });
        assert_eq!(refused(nobody.ask(unwatch)), Code::NoSuchWatch);
        let Answer::Live(page) = nobody
            .ask(Request::List(List::default()))
            .expect("it lists")
        else {
            panic!("no list");
        };
        assert_eq!(page.watches, []);
        // What it starts is itself, without any of root's groups and files.
        let who = place.join("who");
        let mut spawn = sh("id -u; id -g; id -G", "nobody's");
        spawn.stdout = Some(who.clone());
        nobody.spawn(spawn).expect("it starts");
        let ended = record(&mut nobody);
        assert_eq!((ended.tag.as_str(), ended.uid), ("nobody's", NOBODY));
        let said = fs::read_to_string(who).expect("it was written");
        assert_eq!(said, format!("{NOBODY}\n{NOBODY}\n{NOBODY}\n"));
        for (stdin, stdout) in [
            (Some("/etc/shadow"), None),
            (None, Some("/nobody-was-here")),
        ] {
            let spawn = Spawn {
                stdin: stdin.map(Into::into),
                stdout: stdout.map(Into::into),
                ..sh("true", "")
            };
            assert_eq!(refused(nobody.spawn(spawn)), Code::CannotStart);
        }
        assert_eq!(nobody.ack(u64::MAX).expect("it is taken"), 1);
    });
    assert!(fs::metadata("/nobody-was-here").is_err());
    // Root sees all, and its own record was not nobody's to let go.
    let nobodys = as_nobody(|| {
        let mut nobody = connect(&service);
        nobody.spawn(sh("sleep 1000", "")).expect("it starts").watch
    });
    for watch in [roots.watch, nobodys] {
        let signal = Signal {
            watch,
            signal: libc::SIGKILL,
            group: true,
        };
        root.ask(Request::Signal(signal)).expect("root may");
    }
    eventually("both are recorded", || {
        let counts = counts(&mut root);
        counts.watched == 0 && counts.records == 2
    });
    assert_eq!(root.ack(u64::MAX).expect("it is taken"), 1);
}

#[test]
fn a_service_that_is_not_roots_refuses_other_users() {
    if !is_root("a_service_that_is_not_roots_refuses_other_users") {
        return;
    }
    use std::os::unix::process::CommandExt;
    let folder = tempfile::TempDir::new().expect("a folder can be made");
    std::os::unix::fs::chown(folder.path(), Some(NOBODY), Some(NOBODY)).expect("we are root");
    // Where its own user can get at it.
    let program = folder.path().join("exitring");
    fs::copy(env!("CARGO_BIN_EXE_exitring"), &program).expect("it can be copied");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let mut command = std::process::Command::new(&program);
    let socket = folder.path().join("socket");
    command
        .args(["serve", "--mode", "0666", "--socket"])
        .arg(&socket)
        .arg("--state")
        .arg(folder.path().join("state"))
        .env("RUST_LOG", "error")
        .uid(NOBODY)
        .gid(NOBODY);
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
    let mut process = command.spawn().expect("it starts");
    eventually("it answers", || Client::connect(&socket, None).is_ok());
    let refused = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            set_thread_gid(Gid::from_raw(1)).expect("these tests need root");
            set_thread_uid(Uid::from_raw(1)).expect("these tests need root");
            Client::connect(&socket, None)
                .err()
                .and_then(|error| error.code())
        });
        thread.join().expect("it did not panic")
    });
    as_nobody(|| {
        let mut own = Client::connect(&socket, None).expect("it is served");
        own.set_timeout(Some(LONG)).expect("it is a time");
        own.subscribe(0).expect("it may be had");
        own.spawn(sh("exit 4", "")).expect("it starts");
        assert_eq!(
            record(&mut own).outcome,
            exitring_protocol::Outcome::Exited(4)
        );
    });
    process.kill().expect("it is ours");
    process.wait().expect("it is ours");
    assert_eq!(refused, Some(Code::OtherUser));
}

#[test]
fn clients_and_watches_are_bounded_and_come_free_again() {
    let service = Service::start(&["--clients", "3", "--watches-per-user", "2"]);
    let mut first = service.client();
    let own = std::process::id();
    let watched = first.watch(watch_of(own)).expect("there is room");
    first
        .watch(Watch {
            tag: "t".into(),
            ..watch_of(own)
        })
        .expect("there is room");
    let mut second = service.client();
    assert_eq!(refused(second.watch(watch_of(own))), Code::TooManyWatches);
    assert_eq!(refused(second.spawn(sh("true", ""))), Code::TooManyWatches);
    first
        .ask(Request::Unwatch(Unwatch {
            watch: watched.watch,
        }))
        .expect("it is live");
    second.watch(watch_of(own)).expect("there is room");
    let third = service.client();
    let error = Client::connect(service.socket(), None)
        .err()
        .expect("it is refused");
    assert_eq!(error.code(), Some(Code::TooManyClients));
    drop(third);
    eventually("there is room", || {
        Client::connect(service.socket(), None).is_ok()
    });
}

#[test]
fn watching_and_unwatching_for_ever_takes_no_memory() {
    let service = Service::start(&[]);
    let own = std::process::id();
    let turn = |times| {
        ask_often(&service, times, |client| {
            let Watched { watch, .. } = client.watch(watch_of(own)).expect("we live");
            let unwatch = Request::Unwatch(Unwatch { watch });
            client.ask(unwatch).expect("it is live");
        })
    };
    turn(1000);
    let before = anonymous_kib(&service);
    turn(4000);
    let after = anonymous_kib(&service);
    assert!(after < before + 1024, "{before} KiB, then {after} KiB");
}

#[test]
fn nobody_can_have_anothers_records_dropped_by_having_many() {
    if !is_root("nobody_can_have_anothers_records_dropped_by_having_many") {
        return;
    }
    let service = Service::start(&["--mode", "0666", "--keep", "20", "--tail", "1"]);
    open_folder(&service);
    let mut root = service.client();
    root.spawn(sh("exit 7", "root's")).expect("it starts");
    eventually("it is recorded", || counts(&mut root).last_seq == 1);
    as_nobody(|| {
        let mut nobody = connect(&service);
        for _ in 0..60 {
            nobody.spawn(sh("exit 0", "")).expect("it starts");
        }
    });
    root.spawn(sh("sleep 0.1", "root's")).expect("it starts");
    eventually("all are recorded, and some are dropped", || {
        let counts = counts(&mut root);
        counts.watched == 0 && counts.records == 20
    });
    // Who sees everybody's sees both: what is lost, and what is not, though it is older.
    root.subscribe(0).expect("it may be had");
    let notice = root.notice().expect("it is said");
    let Notice::Lost(lost) = notice else {
        panic!("{notice:?}");
    };
    assert_eq!(lost.count, 42);
    let records: Vec<_> = (0..20).map(|_| record(&mut root)).collect();
    assert_eq!((records[0].seq, records[0].tag.as_str()), (1, "root's"));
    let roots = records.iter().filter(|record| record.uid == 0).count();
    assert_eq!(roots, 2);
}

#[test]
fn one_user_cannot_take_all_connections_nor_keep_one_in_silence() {
    if !is_root("one_user_cannot_take_all_connections_nor_keep_one_in_silence") {
        return;
    }
    let service = Service::start(&["--mode", "0666", "--clients", "16"]);
    open_folder(&service);
    let mut silent = as_nobody(|| {
        let silent = Raw::connect(&service);
        // A connection is let in before those that come later.
        let open: Vec<_> = (0..3).map(|_| connect(&service)).collect();
        let error = Client::connect(service.socket(), None).err();
        let error = error.expect("a quarter of 16 are there");
        assert_eq!(error.code(), Some(Code::TooManyClients));
        assert!(error.to_string().contains("of this user"), "{error}");
        // Others are served.
        drop(open);
        silent
    });
    service.client();
    let answer = silent.hear().expect("it is told");
    assert_eq!(answer["error"]["code"], "hello_first");
    assert_eq!(silent.hear(), None);
}

/// A process that a test finds by its number; killed at its end.
struct Found(u32);

impl Drop for Found {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.0 as i32) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

#[test]
fn what_became_root_in_a_users_group_is_not_reached_by_the_user_nor_by_its_time_out() {
    if !is_root("what_became_root_in_a_users_group_is_not_reached_by_the_user_nor_by_its_time_out")
    {
        return;
    }
    let service = Service::start(&["--mode", "0666"]);
    open_folder(&service);
    let place = service.folder.path().join("nobodys");
    fs::create_dir(&place).expect("it can be made");
    std::os::unix::fs::chown(&place, Some(NOBODY), Some(NOBODY)).expect("we are root");
    // A program that is root's whoever starts it, as sudo.
    let becomes_root = service.folder.path().join("becomes-root");
    let its = std::process::Command::new("sh")
        .args([
            "-c",
            "cp \"$(command -v setpriv)\" \"$0\" && chmod 4755 \"$0\"",
        ])
        .arg(&becomes_root)
        .status();
    assert!(its.expect("there is a shell").success());
    for timeout_ms in [None, Some(3000)] {
        let told = place.join(format!("pid-{timeout_ms:?}"));
        let script = format!(
            "{} --reuid=0 --regid=0 --clear-groups sleep 1000 & echo $! > '{}'; wait",
            becomes_root.display(),
            told.display()
        );
        let spawn = Spawn {
            timeout_ms,
            ..sh(&script, "")
        };
        let (root, ended) = as_nobody(|| {
            let mut nobody = connect(&service);
            nobody.subscribe(u64::MAX).expect("it may be had");
            let watch = nobody.spawn(spawn).expect("it starts").watch;
            let mut pid = None;
            eventually("it tells", || {
                let text = fs::read_to_string(&told).unwrap_or_default();
                pid = text.trim().parse().ok();
                pid.is_some()
            });
            let root = Found(pid.expect("it told"));
            // Well before the time-out: until then the user may end it.
            eventually("it is root's", || {
                let status = fs::read_to_string(format!("/proc/{}/status", root.0));
                status.is_ok_and(|status| status.contains("Uid:\t0\t0\t0"))
            });
            if timeout_ms.is_none() {
                let signal = Signal {
                    watch,
                    signal: libc::SIGKILL,
                    group: true,
                };
                nobody.ask(Request::Signal(signal)).expect("it may");
            }
            (root, record(&mut nobody))
        });
        assert_eq!(ended.timed_out, timeout_ms.is_some());
        let status = fs::read_to_string(format!("/proc/{}/status", root.0));
        let status = status.expect("it lives");
        assert!(status.contains("Uid:\t0\t0\t0"), "{status}");
        assert!(!status.contains("State:\tZ"), "{status}");
    }
    // The service is what it was.
    service.client();
}
