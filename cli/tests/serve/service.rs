//! A service for one test, and helpers for all tests.

use std::io::{BufRead, BufReader, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use exitring_protocol::{
    Answer, Client, ClientError, Code, Counts, Notice, Outcome, Record, Request, Spawn, Watch,
};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// The timeout of all waits. Only a stuck machine takes this long.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// A running service. It is killed at the end of the test.
pub(crate) struct Service {
    pub(crate) directory: TempDir,
    pub(crate) process: Child,
    arguments: Vec<String>,
}

impl Service {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let directory = TempDir::new().expect("a directory can be created");
        Self::start_in(directory, arguments)
    }

    pub(crate) fn start_in(directory: TempDir, arguments: &[&str]) -> Self {
        let arguments: Vec<_> = arguments.iter().map(|&word| word.to_owned()).collect();
        let process = launch(&mut command(directory.path(), &arguments));
        let this = Self {
            directory,
            process,
            arguments,
        };
        this.wait_until_it_answers();
        this
    }

    /// Its command, which a test may change.
    pub(crate) fn command(&self) -> Command {
        command(self.directory.path(), &self.arguments)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.process)
    }

    pub(crate) fn client(&self) -> Client {
        self.named(None)
    }

    pub(crate) fn named(&self, name: Option<&str>) -> Client {
        let mut client = Client::connect(self.socket(), name).expect("it answers");
        client
            .set_timeout(Some(TIMEOUT))
            .expect("it is a valid timeout");
        client
    }

    pub(crate) fn counts(&self) -> Counts {
        counts(&mut self.client())
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill().expect("it is a child");
        self.process.wait().expect("it is a child");
    }

    /// Sends SIGTERM, and waits for the end.
    pub(crate) fn terminate(&mut self) {
        kill_process(self.pid(), Signal::TERM).expect("it is a child");
        let mut status = None;
        eventually("it ends", || {
            status = self.process.try_wait().expect("it is a child");
            status.is_some()
        });
        let status = status.expect("it has ended");
        assert!(status.success(), "{status}");
    }

    pub(crate) fn start_again(&mut self) {
        self.process = launch(&mut self.command());
        self.wait_until_it_answers();
    }

    pub(crate) fn wait_until_it_answers(&self) {
        eventually("it answers", || {
            Client::connect(self.socket(), None).is_ok()
        });
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn command(directory: &Path, arguments: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exitring"));
    command
        .arg("serve")
        .arg("--socket")
        .arg(directory.join("socket"))
        .arg("--state")
        .arg(directory.join("state"))
        .args(arguments)
        .env("RUST_LOG", "error")
        .stdin(Stdio::null());
    command
}

fn launch(command: &mut Command) -> Child {
    command.spawn().expect("it starts")
}

pub(crate) fn counts(client: &mut Client) -> Counts {
    match client
        .ask(Request::Stats(Default::default()))
        .expect("it returns counts")
    {
        Answer::Stats(counts) => *counts,
        other => panic!("no stats: {other:?}"),
    }
}

/// The anonymous memory of the service.
pub(crate) fn anonymous_kib(service: &Service) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", service.process.id()));
    let status = status.expect("it is alive");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
    kib.expect("it is readable")
}

/// Sends requests on several connections at once. On one connection, with a round trip for each, a
/// loaded machine takes minutes.
pub(crate) fn ask_in_parallel<T: Send>(
    service: &Service,
    times: usize,
    ask: impl Fn(&mut Client) -> T + Sync,
) -> Vec<T> {
    const CLIENTS: usize = 16;
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|nth| {
                let share = (times + nth) / CLIENTS;
                let ask = &ask;
                scope.spawn(move || {
                    let mut client = service.client();
                    (0..share).map(|_| ask(&mut client)).collect::<Vec<_>>()
                })
            })
            .collect();
        let answers = clients.into_iter().map(|client| client.join());
        answers
            .flat_map(|answers| answers.expect("no panic"))
            .collect()
    })
}

/// Waits until a condition holds.
#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(
            start.elapsed() < TIMEOUT,
            "timeout after {TIMEOUT:?}: {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn sh(script: &str, tag: &str) -> Spawn {
    Spawn {
        argv: ["sh", "-c", script].map(Into::into).into(),
        tag: tag.into(),
        ..Spawn::default()
    }
}

pub(crate) fn watch_of(pid: u32) -> Watch {
    Watch {
        pid: Some(pid as i32),
        ..Watch::default()
    }
}

#[track_caller]
pub(crate) fn next_record(client: &mut Client) -> Record {
    loop {
        match client.notice().expect("a record is received") {
            Notice::Exit(record) => return *record,
            Notice::CaughtUp(_) => {}
            Notice::Lost(lost) => panic!("lost: {lost:?}"),
        }
    }
}

/// All stored records, from a sequence number on.
pub(crate) fn stored_records(service: &Service, from: u64) -> Vec<Record> {
    let mut client = service.client();
    client.subscribe(from).expect("it subscribes");
    let mut records = Vec::new();
    loop {
        match client.notice().expect("all are received") {
            Notice::Exit(record) => records.push(*record),
            Notice::Lost(_) => {}
            Notice::CaughtUp(_) => return records,
        }
    }
}

#[track_caller]
pub(crate) fn error_code<T: std::fmt::Debug>(result: Result<T, ClientError>) -> Code {
    result
        .expect_err("it is refused")
        .code()
        .expect("it has a code")
}

pub(crate) const EXITED_0: Outcome = Outcome::Exited(0);

/// A connection for raw lines.
pub(crate) struct RawClient {
    writer: UnixStream,
    reader: BufReader<UnixStream>,
}

impl RawClient {
    pub(crate) fn connect(service: &Service) -> Self {
        let writer = UnixStream::connect(service.socket()).expect("it answers");
        writer
            .set_read_timeout(Some(TIMEOUT))
            .expect("it is a valid timeout");
        let reader = BufReader::new(writer.try_clone().expect("a descriptor is free"));
        Self { writer, reader }
    }

    pub(crate) fn send_line(&mut self, line: impl AsRef<[u8]>) {
        let mut line = line.as_ref().to_owned();
        line.push(b'\n');
        self.writer.write_all(&line).expect("it accepts input");
    }

    /// Sends text, with descriptors that come with its first byte.
    pub(crate) fn send(&mut self, text: &str, fds: &[BorrowedFd<'_>]) {
        assert_eq!(
            self.try_send(text, fds).expect("it accepts input"),
            text.len()
        );
    }

    pub(crate) fn try_send(
        &mut self,
        text: &str,
        fds: &[BorrowedFd<'_>],
    ) -> std::io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
        let data = [IoSlice::new(text.as_bytes())];
        Ok(sendmsg(
            &self.writer,
            &data,
            &mut control,
            SendFlags::NOSIGNAL,
        )?)
    }

    /// The next line. `None` if the connection was closed.
    pub(crate) fn receive(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_str(&line).expect("it is JSON")),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) fn ask(&mut self, line: impl AsRef<[u8]>) -> Value {
        self.send_line(line);
        self.receive().expect("it answers")
    }

    pub(crate) fn hello(&mut self) {
        let answer = self.ask(r#"{"op": "hello", "version": 1}"#);
        assert!(answer["ok"]["hello"].is_object(), "{answer}");
    }
}

/// Whether the test runs as root. Otherwise it is skipped with a message, but CI has to run as
/// root.
pub fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    assert!(
        root || std::env::var_os("CI").is_none(),
        "{test} needs root"
    );
    if !root {
        eprintln!("{test} was skipped: it needs root");
    }
    root
}
