//! A service of a test's own, and what every test does with one.

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

/// What never takes so long, but on a machine that is stuck.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// A running service; killed at the end of the test.
pub(crate) struct Service {
    pub(crate) folder: TempDir,
    pub(crate) process: Child,
    arguments: Vec<String>,
}

impl Service {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let folder = TempDir::new().expect("a folder can be made");
        Self::start_in(folder, arguments)
    }

    pub(crate) fn start_in(folder: TempDir, arguments: &[&str]) -> Self {
        let arguments: Vec<_> = arguments.iter().map(|&word| word.to_owned()).collect();
        let process = launch(&mut command(folder.path(), &arguments));
        let this = Self {
            folder,
            process,
            arguments,
        };
        this.wait_until_it_answers();
        this
    }

    /// As a command, for what a test wants to change of it.
    pub(crate) fn command(&self) -> Command {
        command(self.folder.path(), &self.arguments)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.process)
    }

    pub(crate) fn client(&self) -> Client {
        self.named(None)
    }

    pub(crate) fn named(&self, name: Option<&str>) -> Client {
        let mut client = Client::connect(self.socket(), name).expect("it answers");
        client.set_timeout(Some(LONG)).expect("it is a time");
        client
    }

    pub(crate) fn counts(&self) -> Counts {
        counts(&mut self.client())
    }

    /// No last words.
    pub(crate) fn kill(&mut self) {
        self.process.kill().expect("it is ours");
        self.process.wait().expect("it is ours");
    }

    /// Tells it to end, and waits until it has.
    pub(crate) fn terminate(&mut self) {
        kill_process(self.pid(), Signal::TERM).expect("it is ours");
        let mut status = None;
        eventually("it ends", || {
            status = self.process.try_wait().expect("it is ours");
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

fn command(folder: &Path, arguments: &[String]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exitring"));
    command
        .arg("serve")
        .arg("--socket")
        .arg(folder.join("socket"))
        .arg("--state")
        .arg(folder.join("state"))
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
        .expect("it counts")
    {
        Answer::Stats(counts) => *counts,
        other => panic!("no stats: {other:?}"),
    }
}

/// The service's memory that is of no file.
pub(crate) fn anonymous_kib(service: &Service) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", service.process.id()));
    let status = status.expect("it lives");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
    kib.expect("the kernel tells")
}

/// Asks so often, from several connections at once: where one would wait for each answer, a loaded machine takes minutes.
pub(crate) fn ask_often<T: Send>(
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

/// Waits for what has to come.
#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < LONG, "not within {LONG:?}: {what}");
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
pub(crate) fn record(client: &mut Client) -> Record {
    loop {
        match client.notice().expect("a record comes") {
            Notice::Exit(record) => return *record,
            Notice::CaughtUp(_) => {}
            Notice::Lost(lost) => panic!("lost: {lost:?}"),
        }
    }
}

/// All records that are kept, from a place in the log on.
pub(crate) fn kept(service: &Service, from: u64) -> Vec<Record> {
    let mut client = service.client();
    client.subscribe(from).expect("it may be had");
    let mut records = Vec::new();
    loop {
        match client.notice().expect("all come") {
            Notice::Exit(record) => records.push(*record),
            Notice::Lost(_) => {}
            Notice::CaughtUp(_) => return records,
        }
    }
}

#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T, ClientError>) -> Code {
    result
        .expect_err("it is refused")
        .code()
        .expect("with a code")
}

pub(crate) const EXITED_0: Outcome = Outcome::Exited(0);

/// A connection for lines of any kind.
pub(crate) struct Raw {
    writer: UnixStream,
    reader: BufReader<UnixStream>,
}

impl Raw {
    pub(crate) fn connect(service: &Service) -> Self {
        let writer = UnixStream::connect(service.socket()).expect("it answers");
        writer.set_read_timeout(Some(LONG)).expect("it is a time");
        let reader = BufReader::new(writer.try_clone().expect("a descriptor is left"));
        Self { writer, reader }
    }

    pub(crate) fn say(&mut self, line: impl AsRef<[u8]>) {
        let mut line = line.as_ref().to_owned();
        line.push(b'\n');
        self.writer.write_all(&line).expect("it listens");
    }

    /// Text, a line or not, with descriptors that come with its first byte.
    pub(crate) fn send(&mut self, text: &str, fds: &[BorrowedFd<'_>]) {
        assert_eq!(self.try_send(text, fds).expect("it listens"), text.len());
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

    /// `None`: it was closed.
    pub(crate) fn hear(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_str(&line).expect("it says JSON")),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) fn ask(&mut self, line: impl AsRef<[u8]>) -> Value {
        self.say(line);
        self.hear().expect("it answers")
    }

    pub(crate) fn hello(&mut self) {
        let answer = self.ask(r#"{"op": "hello", "version": 1}"#);
        assert!(answer["ok"]["hello"].is_object(), "{answer}");
    }
}

/// Whether we are root. The one who develops this need not be, and is told what was not shown; CI has to be.
pub fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    assert!(
        root || std::env::var_os("CI").is_none(),
        "{test} takes root"
    );
    if !root {
        eprintln!("{test} was not run: it takes root");
    }
    root
}
