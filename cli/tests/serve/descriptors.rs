//! Descriptors that come along, and should not, or not with this line.

use std::fs::{self, File};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::service::{Raw, Service, counts, eventually};

/// A socket that whoever closes it last waits an hour for, and its peer, which does not read.
fn lingering() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it has one");
    let mut socket = TcpStream::connect(address).expect("it listens");
    let (peer, _) = listener.accept().expect("it has come");
    socket.set_nonblocking(true).expect("it can be");
    while socket.write(&[0; 65536]).is_ok() {}
    set_socket_linger(&socket, Some(Duration::from_secs(3600))).expect("it can be");
    (socket, peer)
}

#[test]
fn descriptors_that_take_for_ever_to_close_hold_up_nobody() {
    let mut service = Service::start(&["--clients", "16"]);
    let mut other = service.client();
    let mut peers = Vec::new();
    let file = File::open("/dev/null").expect("it is there");
    // With a line, with a part of one, with more than are wanted, and with what is never read.
    for (text, more, hello) in [
        ("{\"op\":\"stats\"}\n", 0, true),
        ("{\"op\":", 0, true),
        ("{\"op\":\"stats\"}\n", 252, true),
        ("{\"op\":\"stats\"}\n", 20, false),
    ] {
        for _ in 0..3 {
            let mut raw = Raw::connect(&service);
            if hello {
                raw.hello();
            }
            let (socket, peer) = lingering();
            peers.push(peer);
            let mut fds = vec![file.as_fd(); more];
            fds.push(socket.as_fd());
            raw.send(text, &fds);
            drop(socket);
            let answer = raw.hear().expect("it is told");
            assert_eq!(answer["error"]["code"], "not_a_pidfd", "{answer}");
            assert_eq!(raw.hear(), None);
        }
    }
    eventually("their places are free", || counts(&mut other).clients == 1);
    // Behind a line that takes the service's time: it ends before it has read them.
    let mut raw = Raw::connect(&service);
    raw.hello();
    let (socket, peer) = lingering();
    peers.push(peer);
    raw.send("{\"op\":\"spawn\",\"argv\":[\"true\"]}\n", &[]);
    raw.send("{}\n", &[socket.as_fd()]);
    drop((socket, raw));
    // More than there are places for.
    let full: Vec<_> = (0..15).map(|_| Raw::connect(&service)).collect();
    let mut refused = Raw::connect(&service);
    let (socket, peer) = lingering();
    peers.push(peer);
    // It may be refused before.
    // Then we have the only copy, and are not to linger over it ourselves.
    if refused.try_send("{}\n", &[socket.as_fd()]).is_err() {
        let _ = set_socket_linger(&socket, None);
    }
    drop((socket, full, refused));
    eventually("their places are free", || counts(&mut other).clients == 1);
    drop(other);
    service.terminate();
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
        pidfd_open(Pid::from_child(&self.0), PidfdFlags::empty()).expect("it lives")
    }
}

impl Drop for Sleeping {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_pidfd_is_of_the_line_it_came_with_and_of_no_other() {
    let service = Service::start(&[]);
    let (a, b) = (Sleeping::new(), Sleeping::new());
    let (of_a, of_b) = (a.pidfd(), b.pidfd());
    let mut raw = Raw::connect(&service);
    raw.hello();
    let open = || fs::read_dir(format!("/proc/{}/fd", service.process.id())).map(Iterator::count);
    let before = open().expect("it lives");
    let watch = "{\"op\":\"watch\"}\n";
    // Refused, each for another reason: what came with it is nobody's.
    let with_a_pid = format!("{{\"op\":\"watch\",\"pid\":{}}}\n", b.0.id());
    for (line, code) in [
        ("{\"op\":\"watch\",\"until\":\"never\"}\n", "bad_request"),
        ("nonsense\n", "bad_json"),
        (&with_a_pid, "bad_request"),
    ] {
        raw.send(line, &[of_a.as_fd()]);
        let answer = raw.hear().expect("it answers");
        assert_eq!(answer["error"]["code"], code, "{answer}");
    }
    raw.send("{\"op\":\"stats\"}\n", &[of_a.as_fd()]);
    assert!(raw.hear().expect("it answers")["ok"].is_object());
    assert_eq!(raw.ask(watch.trim())["error"]["code"], "not_a_pidfd");
    assert_eq!(open().expect("it lives"), before);
    // Lines that are read at once, and only the last has one.
    raw.send(&with_a_pid.repeat(3), &[]);
    raw.send(watch, &[of_a.as_fd()]);
    raw.send(watch, &[of_b.as_fd()]);
    for pid in [b.0.id(), b.0.id(), b.0.id(), a.0.id(), b.0.id()] {
        let answer = raw.hear().expect("it answers");
        assert_eq!(answer["ok"]["watched"]["pid"], pid, "{answer}");
    }
    // Two that come with two lines at once are taken in order.
    raw.send(&watch.repeat(2), &[of_b.as_fd(), of_a.as_fd()]);
    for pid in [b.0.id(), a.0.id()] {
        let answer = raw.hear().expect("it answers");
        assert_eq!(answer["ok"]["watched"]["pid"], pid, "{answer}");
    }
}
