//! The socket file, and what other programs do to it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;

use exitring_protocol::Client;
use rustix::process::{Signal, kill_process};

use crate::service::{EXITED_0, Service, counts, eventually, next_record, sh};

fn answers(service: &Service) -> bool {
    Client::connect(service.socket(), None).is_ok()
}

#[test]
fn the_kernel_lists_the_socket_by_its_path() {
    let mut service = Service::start(&[]);
    let path = service.socket();
    let listed = || {
        let all = fs::read_to_string("/proc/net/unix").expect("it is readable");
        let listening = " 00010000 0001 01 ";
        all.lines()
            .filter(|line| line.contains(listening))
            .any(|line| line.ends_with(&format!(" {}", path.display())))
    };
    assert!(listed());
    // Also after a killed service has left its file.
    service.kill();
    assert!(!listed());
    service.start_again();
    assert!(listed());
    let directory = fs::read_dir(service.directory.path()).expect("it can be listed");
    let mut names: Vec<_> = directory
        .map(|entry| entry.expect("it can be listed").file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["socket", "socket.lock", "state"]);
}

#[test]
fn a_deleted_socket_is_created_again_and_connections_continue() {
    let mut service = Service::start(&["--mode", "0640"]);
    let mut client = service.client();
    client.subscribe(0).expect("it subscribes");
    let lock = service.directory.path().join("socket.lock");
    for _ in 0..2 {
        fs::remove_file(service.socket()).expect("it exists");
        fs::remove_file(&lock).expect("it exists");
        eventually("it is created again", || answers(&service));
        let mode = fs::metadata(service.socket())
            .expect("it exists")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o640);
        client.spawn(sh("exit 0", "")).expect("it is accepted");
        assert_eq!(next_record(&mut client).outcome, EXITED_0);
        // The path still belongs to this service.
        let mut second = service.command();
        second
            .arg("--state")
            .arg(service.directory.path().join("other"));
        let mut second = Command::new(second.get_program());
        second.arg("serve").arg("--socket").arg(service.socket());
        second
            .arg("--state")
            .arg(service.directory.path().join("other"));
        let second = second.output().expect("it starts");
        let error = String::from_utf8_lossy(&second.stderr);
        assert!(error.contains("another service has the socket"), "{error}");
    }
    service.terminate();
    assert!(!service.socket().exists());
}

#[test]
fn a_reexec_creates_a_missing_socket_again() {
    let service = Service::start(&[]);
    let mut client = service.client();
    fs::remove_file(service.socket()).expect("it exists");
    kill_process(service.pid(), Signal::USR2).expect("it is alive");
    eventually("the old image's connection ends", || {
        client
            .ask(exitring_protocol::Request::Stats(Default::default()))
            .is_err()
    });
    eventually("it is created again", || answers(&service));
    // The next image knows the file as its own, and does not create it again.
    let inode = fs::symlink_metadata(service.socket())
        .expect("it exists")
        .ino();
    let mut client = service.client();
    kill_process(service.pid(), Signal::USR2).expect("it is alive");
    eventually("the old image's connection ends", || {
        client
            .ask(exitring_protocol::Request::Stats(Default::default()))
            .is_err()
    });
    eventually("it answers", || answers(&service));
    assert_eq!(
        fs::symlink_metadata(service.socket())
            .expect("it exists")
            .ino(),
        inode
    );
}

#[test]
fn a_file_at_the_socket_path_is_replaced_only_if_it_is_a_dead_socket() {
    let service = Service::start(&[]);
    let mut client = service.client();
    let path = service.socket();
    fs::remove_file(&path).expect("it exists");
    drop(UnixListener::bind(&path).expect("it can be bound"));
    eventually("it is created again", || answers(&service));
    // A regular file is not replaced.
    let other = service.directory.path().join("file");
    fs::write(&other, "content").expect("it can be written");
    fs::rename(&other, &path).expect("it can be moved");
    // The service has checked the path meanwhile, and still serves existing connections.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    counts(&mut client);
    assert_eq!(fs::read_to_string(&path).expect("it exists"), "content");
    // Nor is a socket that another process listens on.
    fs::remove_file(&path).expect("it exists");
    let foreign = UnixListener::bind(&path).expect("it can be bound");
    let (mut probe, _) = foreign.accept().expect("the service connects");
    let its = UnixStream::connect(&path).expect("it still exists");
    drop(its);
    counts(&mut client);
    let _ = std::io::Write::write(&mut probe, b"\n");
    drop(foreign);
    eventually("it is created again", || answers(&service));
}
