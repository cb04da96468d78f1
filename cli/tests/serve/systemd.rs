//! The service under systemd: socket activation, notifications, and the store for pidfds.

use std::io::{IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use exitring_protocol::{Client, Outcome, Unknown};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{Pid, Signal, kill_process};

use crate::service::{Service, TIMEOUT, eventually, next_record, sh, stored_records};

/// Reads notifications and their descriptors as they arrive: the queue of the socket is short, and
/// a full one blocks the sender.
fn listen(socket: UnixDatagram) -> Receiver<(String, Vec<OwnedFd>)> {
    let (send, notifications) = channel();
    std::thread::spawn(move || while send.send(read(&socket)).is_ok() {});
    notifications
}

fn read(socket: &UnixDatagram) -> (String, Vec<OwnedFd>) {
    let mut bytes = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    );
    let got = got.expect("it can be read");
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(more) = message {
            fds.extend(more);
        }
    }
    let text = String::from_utf8_lossy(&bytes[..got.bytes]).into_owned();
    (text, fds)
}

/// Passes descriptors to a command, from number 3 on, as systemd does.
fn pass(command: &mut Command, fds: Vec<(String, OwnedFd)>) {
    let names: Vec<_> = fds.iter().map(|(name, _)| name.as_str()).collect();
    // LISTEN_PID is the pid of the new process, which only that knows.
    let inner = format!(
        "LISTEN_PID=$$ LISTEN_FDS={} LISTEN_FDNAMES={} exec \"$@\"",
        fds.len(),
        names.join(":")
    );
    let mut wrapped = Command::new("sh");
    wrapped
        .args(["-c", &inner, "sh"])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            wrapped.env(name, value);
        }
    }
    // SAFETY: the closure only makes system calls. The descriptors are above the numbers that they
    // are copied to, so none is overwritten before its turn.
    unsafe {
        wrapped.pre_exec(move || {
            for (nth, (_, fd)) in fds.iter().enumerate() {
                if libc::dup2(fd.as_raw_fd(), 3 + nth as i32) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
    *command = wrapped;
}

/// A copy with a number above those that are passed.
fn high(fd: impl AsFd) -> OwnedFd {
    rustix::io::fcntl_dupfd_cloexec(fd, 100).expect("a descriptor is free")
}

#[test]
fn readiness_and_watchdog_are_notified_and_pidfds_are_stored_over_a_restart() {
    let mut service = Service::start(&[]);
    service.terminate();
    let notify_path = service.directory.path().join("notify");
    let notify = UnixDatagram::bind(&notify_path).expect("it can be bound");
    let notify = listen(notify);
    let receive = || notify.recv_timeout(TIMEOUT).expect("it is reported");
    let start = |service: &Service, fds| {
        let mut command = service.command();
        command
            .env("NOTIFY_SOCKET", &notify_path)
            .env("WATCHDOG_USEC", "300000");
        pass(&mut command, fds);
        command.stdin(Stdio::null()).spawn().expect("it starts")
    };
    let place = service.directory.path().to_owned();
    let listener = UnixListener::bind(service.socket()).expect("it can be bound");
    let socket = || ("exitring.socket".to_owned(), high(&listener));
    service.process = start(&service, vec![socket()]);
    assert_eq!(receive().0.trim(), "READY=1");
    assert_eq!(receive().0.trim(), "WATCHDOG=1");
    let mut client = service.client();
    let release = |name: &str| place.join(name);
    let script = |name: &str, code| {
        format!(
            "while [ ! -e {} ]; do sleep 0.02; done; exit {code}",
            release(name).display()
        )
    };
    let down = client
        .spawn(sh(&script("down", 5), "down"))
        .expect("it starts");
    let lives = client
        .spawn(sh(&script("lives", 6), "lives"))
        .expect("it starts");
    client.spawn(sh("exit 0", "before")).expect("it starts");
    eventually("it is recorded", || service.counts().last_seq == 1);

    service.terminate();
    let mut stored = Vec::new();
    while stored.len() < 2 {
        let (text, mut fds) = receive();
        if text.contains("FDSTORE=1") {
            // Without it, systemd closes the pidfd when the process ends.
            assert!(text.contains("FDPOLL=0"), "{text}");
            let name = text.lines().find_map(|line| line.strip_prefix("FDNAME="));
            let fd = fds.pop().expect("it comes along");
            stored.push((name.expect("it has a name").to_owned(), high(&fd)));
        }
    }
    let names: Vec<_> = stored.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(
        names,
        [down.watch, lives.watch].map(|watch| format!("watch-{watch}"))
    );
    // The socket is systemd's: it stays, and new connections wait.
    assert!(service.socket().exists());
    std::fs::write(release("down"), "").expect("it can be written");
    eventually("it was reaped", || {
        std::fs::metadata(format!("/proc/{}", down.pid)).is_err()
    });
    let mut fds = stored;
    fds.push(socket());
    service.process = start(&service, fds);
    let mut removed = 0;
    while removed < 2 {
        removed += usize::from(receive().0.contains("FDSTOREREMOVE=1"));
    }
    std::fs::write(release("lives"), "").expect("it can be written");
    eventually("all have ended", || service.counts().watched == 0);
    let records = stored_records(&service, 0);
    let outcome = |tag: &str| {
        let record = records.iter().find(|record| record.tag == tag);
        record.expect("it exists").outcome
    };
    assert_eq!(outcome("before"), Outcome::Exited(0));
    // It ended while the service was down. The pidfd in the store reports its status (Linux 6.15).
    assert_ne!(outcome("down"), Outcome::Unknown(Unknown::ServiceDown));
    assert_eq!(outcome("down"), Outcome::Exited(5));
    assert_eq!(outcome("lives"), Outcome::Exited(6));
    assert_eq!(records.len(), 3);
}

#[test]
fn an_unread_notify_socket_blocks_nothing() {
    let mut service = Service::start(&[]);
    service.terminate();
    let notify_path = service.directory.path().join("notify");
    let _unread = UnixDatagram::bind(&notify_path).expect("it can be bound");
    let other = UnixDatagram::unbound().expect("a descriptor is free");
    other.set_nonblocking(true).expect("it succeeds");
    while other.send_to(b"full", &notify_path).is_ok() {}
    let mut command = service.command();
    command
        .env("NOTIFY_SOCKET", &notify_path)
        .env("WATCHDOG_USEC", "300000");
    service.process = command.spawn().expect("it starts");
    service.wait_until_it_answers();
    let mut client = service.client();
    client.subscribe(0).expect("it subscribes");
    client.spawn(sh("exit 3", "")).expect("it starts");
    assert_eq!(next_record(&mut client).outcome, Outcome::Exited(3));
    let lives = client.spawn(sh("exec sleep 1000", "")).expect("it starts");
    service.terminate();
    let lives = Pid::from_raw(lives.pid).expect("it is one");
    kill_process(lives, Signal::KILL).expect("it is still alive");
}

#[test]
fn metrics_are_served_only_on_a_loopback_address() {
    let mut service = Service::start(&[]);
    service.terminate();
    let mut command = service.command();
    command
        .args(["--metrics", "127.0.0.1:0"])
        .env("RUST_LOG", "info")
        .stderr(Stdio::piped());
    let mut process = command.spawn().expect("it starts");
    let mut log = std::io::BufReader::new(process.stderr.take().expect("it is piped"));
    service.process = process;
    let address = loop {
        let mut line = String::new();
        let read = std::io::BufRead::read_line(&mut log, &mut line).expect("it logs");
        assert!(read > 0, "it has ended");
        if let Some((_, address)) = line.split_once("address=") {
            break address.trim().to_owned();
        }
    };
    let get = |path: &str| {
        let mut stream = std::net::TcpStream::connect(&address).expect("it accepts input");
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        std::io::Write::write_all(&mut stream, request.as_bytes()).expect("it accepts input");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    };
    let mut client = Client::connect(service.socket(), None).expect("it answers");
    client.subscribe(0).expect("it subscribes");
    client.spawn(sh("exit 0", "")).expect("it starts");
    next_record(&mut client);
    let answer = get("/metrics");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("application/openmetrics-text"), "{answer}");
    for line in [
        "exitring_exits_total 1",
        "exitring_spawned_total 1",
        "exitring_last_seq 1",
        "# EOF",
    ] {
        assert!(answer.contains(line), "{line} is missing in {answer}");
    }
    assert!(get("/").starts_with("HTTP/1.1 404"));
    command = service.command();
    let refused = command
        .args(["--metrics", "0.0.0.0:9100"])
        .output()
        .expect("it starts");
    assert_eq!(refused.status.code(), Some(2));
}
