//! The state directory is deleted, moved or replaced while the service runs.

use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use exitring_protocol::ClientError;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Signal, kill_process};

use crate::service::{Service, counts, eventually, sh, stored_records, watch_of};

fn state(service: &Service) -> PathBuf {
    service.directory.path().join("state")
}

/// Starts a service whose standard error can be read.
fn start() -> Service {
    let mut service = Service::start(&[]);
    service.terminate();
    let mut command = service.command();
    service.process = command.stderr(Stdio::piped()).spawn().expect("it starts");
    service.wait_until_it_answers();
    service
}

/// Waits until the service ends by itself with an error. Returns its standard error.
fn wait_for_failure(service: &mut Service) -> String {
    let mut status = None;
    eventually("it ends", || {
        status = service.process.try_wait().expect("it is a child");
        status.is_some()
    });
    assert_eq!(status.expect("it has ended").code(), Some(2));
    let mut error = String::new();
    let stderr = service.process.stderr.as_mut().expect("it is piped");
    stderr.read_to_string(&mut error).expect("it is UTF-8");
    assert!(error.contains("deleted, moved or replaced"), "{error}");
    error
}

#[test]
fn deleting_the_state_directory_ends_the_service_and_all_connections() {
    let mut service = start();
    let mut waiting = service.client();
    waiting.subscribe(0).expect("it subscribes");
    let mut asking = service.client();
    let pid = asking
        .spawn(sh("exec sleep 1000", ""))
        .expect("it starts")
        .pid;
    let command = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_exitring"));
        command.args(words).arg("--socket").arg(service.socket());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("it starts")
    };
    let own = std::process::id().to_string();
    let clients = [command(&["watch", &own]), command(&["exits", "--follow"])];
    eventually("they are connected", || counts(&mut asking).clients >= 5);
    fs::remove_dir_all(state(&service)).expect("it can be deleted");
    wait_for_failure(&mut service);
    let ended = loop {
        match waiting.notice() {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(ended, ClientError::Closed), "{ended}");
    for mut client in clients {
        let mut status = None;
        eventually("the client ends", || {
            status = client.try_wait().expect("it is a child");
            status.is_some()
        });
        assert_eq!(status.expect("it has ended").code(), Some(2));
    }
    let pid = rustix::process::Pid::from_raw(pid).expect("it is one");
    kill_process(pid, Signal::KILL).expect("processes keep running");
    // The next start has an empty state.
    service.start_again();
    assert_eq!(stored_records(&service, 0), []);
}

#[test]
fn no_request_is_acknowledged_that_would_be_lost() {
    let mut service = start();
    let mut client = service.client();
    fs::rename(state(&service), service.directory.path().join("moved")).expect("it can be moved");
    fs::create_dir(state(&service)).expect("it can be created");
    fs::write(state(&service).join("exits.sqlite"), "").expect("it can be written");
    match client.watch(watch_of(std::process::id())) {
        Ok(_) => panic!("it was acknowledged"),
        Err(ClientError::Refused(error)) => {
            assert_eq!(error.code, exitring_protocol::Code::Storage)
        }
        // The service had noticed before, and ended.
        Err(_) => {}
    }
    let error = wait_for_failure(&mut service);
    assert!(error.contains("exits.sqlite"), "{error}");
    // The new file at the path was not changed.
    assert_eq!(
        fs::read(state(&service).join("exits.sqlite")).expect("it exists"),
        b""
    );
}

#[test]
fn a_service_without_its_state_does_not_reexec() {
    let mut service = start();
    fs::remove_dir_all(state(&service)).expect("it can be deleted");
    kill_process(service.pid(), Signal::USR2).expect("it is alive");
    wait_for_failure(&mut service);
    assert!(!state(&service).exists());
}

#[test]
fn the_content_of_a_deleted_write_ahead_log_is_saved() {
    let mut service = start();
    let mut client = service.client();
    client.subscribe(0).expect("it subscribes");
    client.spawn(sh("exit 3", "early")).expect("it starts");
    crate::service::next_record(&mut client);
    fs::remove_file(state(&service).join("exits.sqlite-wal")).expect("it exists");
    wait_for_failure(&mut service);
    service.start_again();
    let records = stored_records(&service, 0);
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].tag, "early");
}

#[test]
fn a_deleted_lock_file_is_created_again_and_excludes_other_services() {
    let service = Service::start(&[]);
    let lock = state(&service).join("lock");
    fs::remove_file(&lock).expect("it exists");
    eventually("it is created again", || lock.exists());
    let mut second = Command::new(env!("CARGO_BIN_EXE_exitring"));
    second.arg("serve").arg("--state").arg(state(&service));
    second
        .arg("--socket")
        .arg(service.directory.path().join("other"));
    let second = second.output().expect("it starts");
    let error = String::from_utf8_lossy(&second.stderr);
    assert!(
        error.contains("another service has the state directory"),
        "{error}"
    );
    counts(&mut service.client());
}

#[test]
fn the_state_directory_is_locked_against_systemd_tmpfiles() {
    let service = Service::start(&[]);
    let directory = File::open(state(&service)).expect("it exists");
    eventually("it is locked", || {
        let locked = flock(&directory, FlockOperation::NonBlockingLockExclusive);
        if locked.is_ok() {
            flock(&directory, FlockOperation::Unlock).expect("it can be unlocked");
        }
        locked == Err(rustix::io::Errno::WOULDBLOCK)
    });
}
