//! Descriptors that clients send, with or without need.

use std::fs::{self, File};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::fuse::StuckFile;
use crate::service::{RawClient, Service, counts, eventually, is_root};

/// A socket whose last close blocks for an hour, and its peer, which does not read.
fn lingering() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it has one");
    let mut socket = TcpStream::connect(address).expect("it accepts input");
    let (peer, _) = listener.accept().expect("it connects");
    socket.set_nonblocking(true).expect("it succeeds");
    while socket.write(&[0; 65536]).is_ok() {}
    set_socket_linger(&socket, Some(Duration::from_secs(3600))).expect("it succeeds");
    (socket, peer)
}

/// Closes it on a thread. If the service has closed its copy before, this is the last one, whose close
/// blocks.
fn close(socket: TcpStream) {
    std::thread::spawn(move || drop(socket));
}

#[test]
fn descriptors_that_never_close_block_no_client() {
    let mut service = Service::start(&["--clients", "16"]);
    let mut other = service.client();
    let mut peers = Vec::new();
    let file = File::open("/dev/null").expect("it exists");
    // With a line, with a part of one, with more descriptors than allowed, and before a hello.
    for (text, more, hello) in [
        ("{\"op\":\"stats\"}\n", 0, true),
        ("{\"op\":", 0, true),
        ("{\"op\":\"stats\"}\n", 252, true),
        ("{\"op\":\"stats\"}\n", 20, false),
    ] {
        for _ in 0..3 {
            let mut raw = RawClient::connect(&service);
            if hello {
                raw.hello();
            }
            let (socket, peer) = lingering();
            peers.push(peer);
            let mut fds = vec![file.as_fd(); more];
            fds.push(socket.as_fd());
            raw.send(text, &fds);
            close(socket);
            let answer = raw.receive().expect("it is reported");
            assert_eq!(answer["error"]["code"], "not_a_pidfd", "{answer}");
            assert_eq!(raw.receive(), None);
        }
    }
    eventually("their permits are released", || {
        counts(&mut other).clients == 1
    });
    // Behind a slow request: the client is gone before the service reads the descriptor.
    let mut raw = RawClient::connect(&service);
    raw.hello();
    let (socket, peer) = lingering();
    peers.push(peer);
    raw.send("{\"op\":\"spawn\",\"argv\":[\"true\"]}\n", &[]);
    raw.send("{}\n", &[socket.as_fd()]);
    close(socket);
    drop(raw);
    // More connections than the limit.
    let full: Vec<_> = (0..15).map(|_| RawClient::connect(&service)).collect();
    let mut refused = RawClient::connect(&service);
    let (socket, peer) = lingering();
    peers.push(peer);
    let _ = refused.try_send("{}\n", &[socket.as_fd()]);
    close(socket);
    drop((full, refused));
    eventually("their permits are released", || {
        counts(&mut other).clients == 1
    });
    drop(other);
    service.terminate();
}

#[test]
fn a_file_that_never_closes_prevents_neither_the_service_nor_the_next_one() {
    if !is_root("a_file_that_never_closes_prevents_neither_the_service_nor_the_next_one") {
        return;
    }
    let mut service = Service::start(&[]);
    service.terminate();
    let path = service.directory.path().join("log");
    let log = || fs::read_to_string(&path).expect("it exists");
    let mut command = service.command();
    command.stderr(File::create(&path).expect("it can be created"));
    service.process = command.spawn().expect("it starts");
    service.wait_until_it_answers();
    let mut client = service.client();
    let mut stuck = StuckFile::mount_at(&service.directory.path().join("stuck"));
    let mut raw = RawClient::connect(&service);
    raw.hello();
    raw.send("{}\n", &[stuck.as_fd()]);
    let answer = raw.receive().expect("it is reported");
    assert_eq!(answer["error"]["code"], "not_a_pidfd", "{answer}");
    stuck.wait_until_closing();
    stuck.close();
    kill_process(service.pid(), Signal::USR2).expect("it is alive");
    eventually("the exec is refused", || {
        log().contains("it keeps running: descriptors that the users 0 have sent")
    });
    // The same connection, so it is the same image.
    assert_eq!(counts(&mut client).watched, 0);
    kill_process(service.pid(), Signal::TERM).expect("it is alive");
    eventually("it has stopped", || log().contains("cannot end yet"));
    let second = service.command().spawn().expect("it starts");
    let mut first = std::mem::replace(&mut service.process, second);
    service.wait_until_it_answers();
    drop(stuck);
    assert!(first.wait().expect("it is a child").success());
}

struct Sleeping(Child);

impl Sleeping {
    fn new() -> Self {
        Self(
            Command::new("sleep")
                .arg("1000")
                .spawn()
                .expect("it starts"),
        )
    }

    fn pidfd(&self) -> OwnedFd {
        pidfd_open(Pid::from_child(&self.0), PidfdFlags::empty()).expect("it is alive")
    }
}

impl Drop for Sleeping {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_pidfd_belongs_only_to_the_line_it_came_with() {
    let service = Service::start(&[]);
    let (a, b) = (Sleeping::new(), Sleeping::new());
    let (of_a, of_b) = (a.pidfd(), b.pidfd());
    let mut raw = RawClient::connect(&service);
    raw.hello();
    eventually("earlier connections are closed", || {
        raw.ask(r#"{"op":"stats"}"#)["ok"]["stats"]["clients"] == 1
    });
    let open = || fs::read_dir(format!("/proc/{}/fd", service.process.id())).map(Iterator::count);
    let before = open().expect("it is alive");
    let watch = "{\"op\":\"watch\"}\n";
    // Each request is refused for another reason, and its pidfd is closed.
    let with_a_pid = format!("{{\"op\":\"watch\",\"pid\":{}}}\n", b.0.id());
    for (line, code) in [
        ("{\"op\":\"watch\",\"until\":\"never\"}\n", "bad_request"),
        ("nonsense\n", "bad_json"),
        (&with_a_pid, "bad_request"),
    ] {
        raw.send(line, &[of_a.as_fd()]);
        let answer = raw.receive().expect("it answers");
        assert_eq!(answer["error"]["code"], code, "{answer}");
    }
    raw.send("{\"op\":\"stats\"}\n", &[of_a.as_fd()]);
    assert!(raw.receive().expect("it answers")["ok"].is_object());
    assert_eq!(raw.ask(watch.trim())["error"]["code"], "not_a_pidfd");
    assert_eq!(open().expect("it is alive"), before);
    // The service may read these lines at once. Only the last two have a pidfd.
    raw.send(&with_a_pid.repeat(3), &[]);
    raw.send(watch, &[of_a.as_fd()]);
    raw.send(watch, &[of_b.as_fd()]);
    for pid in [b.0.id(), b.0.id(), b.0.id(), a.0.id(), b.0.id()] {
        let answer = raw.receive().expect("it answers");
        assert_eq!(answer["ok"]["watched"]["pid"], pid, "{answer}");
    }
    // Two pidfds that come with two lines at once are taken in order.
    raw.send(&watch.repeat(2), &[of_b.as_fd(), of_a.as_fd()]);
    for pid in [b.0.id(), a.0.id()] {
        let answer = raw.receive().expect("it answers");
        assert_eq!(answer["ok"]["watched"]["pid"], pid, "{answer}");
    }
}
