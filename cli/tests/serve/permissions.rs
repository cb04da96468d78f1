//! What each user may do. These tests need root, to become another user.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use exitring_protocol::{Answer, Client, Code, List, Request, Signal, Spawn, Unwatch};
use rustix::thread::{Gid, Uid, set_thread_gid, set_thread_uid};

use crate::service::{
    Service, TIMEOUT, counts, error_code, eventually, is_root, next_record, sh, watch_of,
};

const NOBODY: u32 = 65534;

/// Runs a function as the user nobody, on a thread of its own: the kernel keeps users per thread.
pub(crate) fn as_nobody<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            set_thread_gid(Gid::from_raw(NOBODY)).expect("these tests need root");
            set_thread_uid(Uid::from_raw(NOBODY)).expect("these tests need root");
            act()
        });
        thread.join().expect("it did not panic")
    })
}

/// Lets all users reach the socket.
pub(crate) fn open_directory(service: &Service) {
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(service.directory.path(), open).expect("permissions can be set");
}

pub(crate) fn connect(service: &Service) -> Client {
    let mut client = Client::connect(service.socket(), None).expect("it answers");
    client
        .set_timeout(Some(TIMEOUT))
        .expect("it is a valid timeout");
    client
}

#[test]
fn the_socket_is_private_to_its_user_by_default() {
    if !is_root("the_socket_is_private_to_its_user_by_default") {
        return;
    }
    let service = Service::start(&[]);
    open_directory(&service);
    let mode = |name: &str| {
        let found = fs::metadata(service.directory.path().join(name));
        found.expect("it exists").permissions().mode() & 0o777
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
fn another_user_sees_starts_and_signals_only_its_own_processes() {
    if !is_root("another_user_sees_starts_and_signals_only_its_own_processes") {
        return;
    }
    let service = Service::start(&["--mode", "0666"]);
    open_directory(&service);
    let mut root = service.client();
    let roots = root.spawn(sh("sleep 1000", "root's")).expect("it starts");
    let place = service.directory.path().join("nobodys");
    fs::create_dir(&place).expect("it can be created");
    std::os::unix::fs::chown(&place, Some(NOBODY), Some(NOBODY)).expect("this test runs as root");
    as_nobody(|| {
        let mut nobody = connect(&service);
        assert_eq!(nobody.welcome().uid, NOBODY);
        nobody.subscribe(0).expect("it subscribes");
        // It can neither watch root's process nor see root's watch.
        assert_eq!(
            error_code(nobody.watch(watch_of(roots.pid as u32))),
            Code::Denied
        );
        assert_eq!(
            error_code(nobody.watch(watch_of(std::process::id()))),
            Code::Denied
        );
        let signal = |watch| {
            Request::Signal(Signal {
                watch,
                signal: 9,
                group: false,
            })
        };
        assert_eq!(
            error_code(nobody.ask(signal(roots.watch))),
            Code::NoSuchWatch
        );
        let unwatch = Request::Unwatch(Unwatch { watch: roots.watch });
        assert_eq!(error_code(nobody.ask(unwatch)), Code::NoSuchWatch);
        let Answer::Live(page) = nobody
            .ask(Request::List(List::default()))
            .expect("it returns a list")
        else {
            panic!("no list");
        };
        assert_eq!(page.watches, []);
        // Its processes run as its own user, without root's groups and files.
        let who = place.join("who");
        let mut spawn = sh("id -u; id -g; id -G", "nobody's");
        spawn.stdout = Some(who.clone());
        nobody.spawn(spawn).expect("it starts");
        let ended = next_record(&mut nobody);
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
            assert_eq!(error_code(nobody.spawn(spawn)), Code::CannotStart);
        }
        assert_eq!(nobody.ack(u64::MAX).expect("it is accepted"), 1);
    });
    assert!(fs::metadata("/nobody-was-here").is_err());
    // Root sees everything. The user nobody could not acknowledge root's record.
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
        root.ask(Request::Signal(signal))
            .expect("root may signal all");
    }
    eventually("both are recorded", || {
        let counts = counts(&mut root);
        counts.watched == 0 && counts.records == 2
    });
    assert_eq!(root.ack(u64::MAX).expect("it is accepted"), 1);
}

#[test]
fn a_service_that_does_not_run_as_root_refuses_other_users() {
    if !is_root("a_service_that_does_not_run_as_root_refuses_other_users") {
        return;
    }
    use std::os::unix::process::CommandExt;
    let directory = tempfile::TempDir::new().expect("a directory can be created");
    std::os::unix::fs::chown(directory.path(), Some(NOBODY), Some(NOBODY))
        .expect("this test runs as root");
    // At a path that the user can read.
    let program = directory.path().join("exitring");
    fs::copy(env!("CARGO_BIN_EXE_exitring"), &program).expect("it can be copied");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))
        .expect("permissions can be set");
    let mut command = std::process::Command::new(&program);
    let socket = directory.path().join("socket");
    command
        .args(["serve", "--mode", "0666", "--socket"])
        .arg(&socket)
        .arg("--state")
        .arg(directory.path().join("state"))
        .env("RUST_LOG", "error")
        .uid(NOBODY)
        .gid(NOBODY);
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))
        .expect("permissions can be set");
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
        own.set_timeout(Some(TIMEOUT))
            .expect("it is a valid timeout");
        own.subscribe(0).expect("it subscribes");
        own.spawn(sh("exit 4", "")).expect("it starts");
        assert_eq!(
            next_record(&mut own).outcome,
            exitring_protocol::Outcome::Exited(4)
        );
    });
    process.kill().expect("it is a child");
    process.wait().expect("it is a child");
    assert_eq!(refused, Some(Code::OtherUser));
}

/// Kills a process at the end of a test.
struct KillOnDrop(u32);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.0 as i32) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

#[test]
fn a_setuid_root_process_in_a_users_group_is_not_signalled() {
    if !is_root("a_setuid_root_process_in_a_users_group_is_not_signalled") {
        return;
    }
    let service = Service::start(&["--mode", "0666"]);
    open_directory(&service);
    let place = service.directory.path().join("nobodys");
    fs::create_dir(&place).expect("it can be created");
    std::os::unix::fs::chown(&place, Some(NOBODY), Some(NOBODY)).expect("this test runs as root");
    // A setuid program of root, like sudo.
    let becomes_root = service.directory.path().join("becomes-root");
    let its = std::process::Command::new("sh")
        .args([
            "-c",
            "cp \"$(command -v setpriv)\" \"$0\" && chmod 4755 \"$0\"",
        ])
        .arg(&becomes_root)
        .status();
    assert!(its.expect("there is a shell").success());
    for timeout_ms in [None, Some(3000)] {
        let pid_file = place.join(format!("pid-{timeout_ms:?}"));
        let script = format!(
            "{} --reuid=0 --regid=0 --clear-groups sleep 1000 & echo $! > '{}'; wait",
            becomes_root.display(),
            pid_file.display()
        );
        let spawn = Spawn {
            timeout_ms,
            ..sh(&script, "")
        };
        let (root, ended) = as_nobody(|| {
            let mut nobody = connect(&service);
            nobody.subscribe(u64::MAX).expect("it subscribes");
            let watch = nobody.spawn(spawn).expect("it starts").watch;
            let mut pid = None;
            eventually("it has written its pid", || {
                let text = fs::read_to_string(&pid_file).unwrap_or_default();
                pid = text.trim().parse().ok();
                pid.is_some()
            });
            let root = KillOnDrop(pid.expect("it has written its pid"));
            // Well before the timeout. Until it is root's, the user may end it.
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
                nobody
                    .ask(Request::Signal(signal))
                    .expect("the user may signal the group");
            }
            (root, next_record(&mut nobody))
        });
        assert_eq!(ended.timed_out, timeout_ms.is_some());
        let status = fs::read_to_string(format!("/proc/{}/status", root.0));
        let status = status.expect("it is alive");
        assert!(status.contains("Uid:\t0\t0\t0"), "{status}");
        assert!(!status.contains("State:\tZ"), "{status}");
    }
    // The service still works.
    service.client();
}
