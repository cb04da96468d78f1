//! A server for a test, and the commands that use it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::common::{exitring, std_exitring, wait_until};

/// A server on a free port of the loopback interface, which is killed at the end of the test.
pub struct Server {
    pub dir: TempDir,
    child: Child,
    port: u16,
    config: String,
}

/// Whether tests can run. In CI the server has to be there.
fn is_installed() -> bool {
    let version = Command::new("nats-server").arg("--version").output();
    let found = version.is_ok_and(|output| output.status.success());
    assert!(found || std::env::var_os("CI").is_none(), "no nats-server");
    found
}

impl Server {
    /// `None`: there is no nats-server, and the test is not made.
    pub fn start() -> Option<Self> {
        Self::with("jetstream { store_dir: STORE }")
    }

    /// A server with this configuration, in which STORE stands for a new directory.
    pub fn with(config: &str) -> Option<Self> {
        if !is_installed() {
            println!("not tested: there is no nats-server");
            return None;
        }
        let dir = tempfile::tempdir().expect("a directory");
        let store = dir.path().join("store").display().to_string();
        let config = config.replace("STORE", &format!("{store:?}"));
        let child = spawn(dir.path(), &config, None);
        let mut port = None;
        wait_until("the ports of the server", || {
            port = read_port(&dir.path().join("ports"));
            port.is_some()
        });
        Some(Self {
            child,
            port: port.expect("it is known"),
            dir,
            config,
        })
    }

    pub fn kill(&mut self) {
        self.child.kill().expect("it is a child");
        self.child.wait().expect("it is a child");
    }

    pub fn signal(&self, signal: i32) {
        crate::common::signal(&self.child, signal);
    }

    /// Ends the server, which writes all that it knows.
    pub fn end(&mut self) {
        self.signal(libc::SIGTERM);
        self.child.wait().expect("it is a child");
    }

    /// The directory of the state of the consumer of jobs.
    pub fn consumer_state(&self, run: &str, id: &str) -> std::path::PathBuf {
        let streams = self.dir.path().join("store/jetstream/$G/streams");
        streams.join(format!("exitring-{run}-jobs/obs/workers-{id}"))
    }

    /// Starts the server again, with the same port and store.
    pub fn start_again(&mut self) {
        self.child = spawn(self.dir.path(), &self.config, Some(self.port));
        wait_until("the server", || {
            std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok()
        });
    }

    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn url(&self, run: &str) -> String {
        format!("nats://{}/{run}", self.host())
    }

    /// A file in the directory of the test.
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        fs::write(&path, text).expect("writable");
        path.display().to_string()
    }

    /// Submits jobs, one a line, with some options.
    pub fn submit(&self, run: &str, options: &[&str], jobs: &str) {
        let list = self.file(&format!("{run}.list"), jobs);
        let output = self.command("submit", run, options).arg(list).output();
        let output = output.expect("runs");
        assert!(output.status.success(), "{output:?}");
    }

    pub fn command(&self, subcommand: &str, run: &str, options: &[&str]) -> assert_cmd::Command {
        let url = self.url(run);
        let words = subcommand.split(' ').chain(["--queue", url.as_str()]);
        without_login(exitring(words.chain(options.iter().copied())))
    }

    /// A worker in the background.
    pub fn worker(&self, run: &str, options: &[&str]) -> Worker {
        worker_of(&self.url(run), options)
    }

    /// Publishes a message, and waits until the server has it.
    pub fn publish(&self, subject: &str, message: &str) {
        let mut stream = std::net::TcpStream::connect(self.host()).expect("connects");
        let length = message.len();
        let text = format!("CONNECT {{}}\r\nPUB {subject} {length}\r\n{message}\r\nPING\r\n");
        stream.write_all(text.as_bytes()).expect("writes");
        let lines = BufReader::new(stream)
            .lines()
            .map(|line| line.expect("a line"));
        assert!(lines.into_iter().any(|line| line == "PONG"));
    }

    /// Receives the messages of a subject from now on.
    pub fn subscribe(&self, subject: &str) -> Subscription {
        let mut stream = std::net::TcpStream::connect(self.host()).expect("connects");
        let text = format!("CONNECT {{}}\r\nSUB {subject} 1\r\n");
        stream.write_all(text.as_bytes()).expect("writes");
        let subscription = Subscription(stream);
        subscription.received();
        subscription
    }

    /// The id of a run.
    pub fn id(&self, run: &str) -> String {
        self.status(run)["id"].as_str().expect("an id").into()
    }

    pub fn status(&self, run: &str) -> Value {
        let output = self.command("queue status", run, &["--json"]).output();
        let output = output.expect("runs");
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }

    /// The records of a run, as `results --output jsonl` prints them.
    pub fn records(&self, run: &str) -> Vec<Value> {
        let mut command = self.command("results", run, &["--output", "jsonl"]);
        crate::common::records(&crate::common::stdout(&mut command))
    }
}

/// A subscription of a connection of its own.
pub struct Subscription(std::net::TcpStream);

impl Subscription {
    /// What the server has sent until now.
    pub fn received(&self) -> String {
        (&self.0).write_all(b"PING\r\n").expect("writes");
        let lines = BufReader::new(&self.0)
            .lines()
            .map(|line| line.expect("a line"));
        lines
            .take_while(|line| line != "PONG")
            .map(|line| line + "\n")
            .collect()
    }
}

/// A worker in the background.
pub fn worker_of(url: &str, options: &[&str]) -> Worker {
    let words = ["run", "--queue", url].into_iter();
    let mut command = std_exitring(words.chain(options.iter().copied()));
    for name in LOGIN_VARIABLES {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null());
    crate::common::reset_signals(&mut command);
    let errors = tempfile::NamedTempFile::new().expect("a file");
    command.stderr(errors.reopen().expect("a file"));
    Worker {
        child: command.spawn().expect("starts"),
        errors,
    }
}

const LOGIN_VARIABLES: [&str; 4] = ["NATS_USER", "NATS_PASSWORD", "NATS_CREDS", "NATS_CA"];

pub fn without_login(mut command: assert_cmd::Command) -> assert_cmd::Command {
    for name in LOGIN_VARIABLES {
        command.env_remove(name);
    }
    command
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A worker, which is killed at the end of the test.
pub struct Worker {
    pub child: Child,
    errors: tempfile::NamedTempFile,
}

impl Worker {
    pub fn errors(&self) -> String {
        fs::read_to_string(self.errors.path()).expect("readable")
    }

    /// Waits for its end. Returns the exit code, as a shell shows it.
    pub fn end(&mut self) -> Option<i32> {
        let mut status = None;
        wait_until("the end of a worker", || {
            status = self.child.try_wait().expect("it is a child");
            status.is_some()
        });
        let status = status?;
        status.code().or(status.signal().map(|signal| 128 + signal))
    }

    pub fn signal(&self, signal: i32) {
        crate::common::signal(&self.child, signal);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("worker: {}", self.errors());
        }
    }
}

fn spawn(dir: &Path, config: &str, port: Option<u16>) -> Child {
    let ports = dir.join("ports");
    fs::create_dir_all(&ports).expect("writable");
    let port = port.map_or("-1".into(), |port| port.to_string());
    let config = format!(
        "listen: \"127.0.0.1:{port}\"\nports_file_dir: {:?}\n{config}\n",
        ports.display().to_string()
    );
    let path = dir.join("server.conf");
    fs::write(&path, config).expect("writable");
    let mut command = Command::new("nats-server");
    command.arg("-c").arg(path).arg("-l").arg(dir.join("log"));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().expect("starts")
}

fn read_port(ports: &Path) -> Option<u16> {
    let mut entries = fs::read_dir(ports).ok()?.flatten();
    let text = fs::read(entries.next()?.path()).ok()?;
    let ports: Value = serde_json::from_slice(&text).ok()?;
    let url = ports["nats"].as_array()?.first()?.as_str()?;
    url.rsplit_once(':')?.1.parse().ok()
}
