//! The socket in its folder, and what others do to it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;

use exitring_protocol::Client;
use rustix::process::{Signal, kill_process};

use crate::service::{EXITED_0, Service, counts, eventually, record, sh};

fn answers(service: &Service) -> bool {
    Client::connect(service.socket(), None).is_ok()
}

#[test]
fn the_kernel_lists_the_socket_by_the_name_that_it_has() {
    let mut service = Service::start(&[]);
    let path = service.socket();
    let listed = || {
        let all = fs::read_to_string("/proc/net/unix").expect("the kernel tells");
        let listening = " 00010000 0001 01 ";
        all.lines()
            .filter(|line| line.contains(listening))
            .any(|line| line.ends_with(&format!(" {}", path.display())))
    };
    assert!(listed());
    // Also where one was left by a service that was killed.
    service.kill();
    assert!(!listed());
    service.start_again();
    assert!(listed());
    let folder = fs::read_dir(service.folder.path()).expect("it can be listed");
    let mut names: Vec<_> = folder
        .map(|entry| entry.expect("it can be listed").file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["socket", "socket.lock", "state"]);
}

#[test]
fn a_deleted_socket_is_made_again_and_who_is_connected_stays_so() {
    let mut service = Service::start(&["--mode", "0640"]);
    let mut client = service.client();
    client.subscribe(0).expect("it may be had");
    let lock = service.folder.path().join("socket.lock");
    for _ in 0..2 {
        fs::remove_file(service.socket()).expect("it is there");
        fs::remove_file(&lock).expect("it is there");
        eventually("it is made again", || answers(&service));
        let mode = fs::metadata(service.socket())
            .expect("it is there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o640);
        client.spawn(sh("exit 0", "")).expect("it is taken");
        assert_eq!(record(&mut client).outcome, EXITED_0);
        // It is this service's still.
        let mut second = service.command();
        second
            .arg("--state")
            .arg(service.folder.path().join("other"));
        let mut second = Command::new(second.get_program());
        second.arg("serve").arg("--socket").arg(service.socket());
        second
            .arg("--state")
            .arg(service.folder.path().join("other"));
        let second = second.output().expect("it starts");
        let error = String::from_utf8_lossy(&second.stderr);
        assert!(error.contains("another service has the socket"), "{error}");
    }
    service.terminate();
    assert!(!service.socket().exists());
}

#[test]
fn a_socket_that_is_gone_is_made_again_also_by_the_image_that_is_executed_anew() {
    let service = Service::start(&[]);
    let mut client = service.client();
    fs::remove_file(service.socket()).expect("it is there");
    kill_process(service.pid(), Signal::USR2).expect("it lives");
    eventually("the old image's connection ends", || {
        client
            .ask(exitring_protocol::Request::Stats(Default::default()))
            .is_err()
    });
    eventually("it is made again", || answers(&service));
    // And is known as its own: nothing is made again now.
    let made = fs::symlink_metadata(service.socket())
        .expect("it is there")
        .ino();
    let mut client = service.client();
    kill_process(service.pid(), Signal::USR2).expect("it lives");
    eventually("the old image's connection ends", || {
        client
            .ask(exitring_protocol::Request::Stats(Default::default()))
            .is_err()
    });
    eventually("it answers", || answers(&service));
    assert_eq!(
        fs::symlink_metadata(service.socket())
            .expect("it is there")
            .ino(),
        made
    );
}

#[test]
fn what_somebody_has_put_in_the_sockets_place_is_replaced_only_if_it_is_a_socket_that_nobody_answers_on()
 {
    let service = Service::start(&[]);
    let mut client = service.client();
    let path = service.socket();
    fs::remove_file(&path).expect("it is there");
    drop(UnixListener::bind(&path).expect("it can be bound"));
    eventually("it is made again", || answers(&service));
    // A file is somebody's.
    let other = service.folder.path().join("file");
    fs::write(&other, "mine").expect("it can be written");
    fs::rename(&other, &path).expect("it can be moved");
    // A turn of looking passes, in which it goes on for who is connected.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    counts(&mut client);
    assert_eq!(fs::read_to_string(&path).expect("it is there"), "mine");
    // So is a socket on which somebody answers.
    fs::remove_file(&path).expect("it is there");
    let foreign = UnixListener::bind(&path).expect("it can be bound");
    let (mut looks, _) = foreign.accept().expect("the service looks");
    let its = UnixStream::connect(&path).expect("it is there still");
    drop(its);
    counts(&mut client);
    let _ = std::io::Write::write(&mut looks, b"\n");
    drop(foreign);
    eventually("it is made again", || answers(&service));
}
