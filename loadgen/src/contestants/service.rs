//! `exitring serve` with its clients. The service is another process; the clients are threads of
//! this process. Each client has a connection, and reaps the processes that the service reports.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use exitring::Pid;
use exitring_protocol::{Client, Notice, Watch};
use tempfile::TempDir;

use super::contestant::Contestant;
use crate::measure::recorder::{Delivery, Recorder, reap};
use crate::types::kind::Kind;
use crate::types::run_spec::RunSpec;
use crate::types::scenario::Scenario;

/// The time within which the service must answer first.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// A process for a client to watch, and its slot.
type Task = (Pid, usize);

pub(crate) struct Service {
    process: Child,
    /// Removed when this is dropped.
    _directory: TempDir,
    clients: Vec<Sender<Task>>,
    /// Each client sends a message when all its watches have begun, or the error.
    ready: Receiver<Result<()>>,
}

/// The path of `exitring`, beside this program.
fn program() -> Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name("exitring");
    ensure!(
        program.is_file(),
        "{} is missing; build it with cargo build -p exitring-cli, with the same profile",
        program.display()
    );
    Ok(program)
}

/// The reason why the service cannot run here, if there is one.
pub(super) fn missing() -> Option<String> {
    program().err().map(|error| error.to_string())
}

impl Service {
    pub(crate) fn new(spec: &RunSpec, recorder: &Arc<Recorder>) -> Result<Self> {
        let Scenario::Serve(options) = &spec.scenario else {
            bail!("the service takes part in serve only");
        };
        let place = options.state.clone().unwrap_or_else(std::env::temp_dir);
        let directory = TempDir::with_prefix_in("loadgen-serve-", place)
            .context("creating a directory for the service")?;
        let socket = directory.path().join("socket");
        let durability = match spec.kind {
            Kind::ServePower => "power",
            _ => "process",
        };
        let mut command = Command::new(program()?);
        command
            .args(["serve", "--durability", durability, "--socket"])
            .arg(&socket)
            .arg("--state")
            .arg(directory.path().join("state"))
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null());
        // SAFETY: one system call. It ends the service with this process.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let process = command.spawn().context("starting exitring serve")?;
        let (ready_sender, ready) = channel();
        let mut this = Self {
            process,
            _directory: directory,
            clients: Vec::new(),
            ready,
        };
        this.wait_until_it_answers(&socket)?;
        for nth in 0..options.clients {
            let client = Client::connect(&socket, Some(&format!("client-{nth}")))?;
            let (task_sender, tasks) = channel();
            let (recorder, ready_sender) = (Arc::clone(recorder), ready_sender.clone());
            std::thread::Builder::new()
                .name(format!("client-{nth}"))
                .stack_size(256 * 1024)
                .spawn(move || run_client(client, &tasks, &ready_sender, &recorder))
                .context("starting a client's thread")?;
            this.clients.push(task_sender);
        }
        Ok(this)
    }

    fn wait_until_it_answers(&mut self, socket: &Path) -> Result<()> {
        let start = Instant::now();
        while let Err(error) = Client::connect(socket, None) {
            if let Some(status) = self.process.try_wait()? {
                bail!("exitring serve has ended: {status}");
            }
            if start.elapsed() > START_TIMEOUT {
                return Err(anyhow!(error)).context("exitring serve does not answer");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

fn run_client(
    mut client: Client,
    tasks: &Receiver<Task>,
    ready_sender: &Sender<Result<()>>,
    recorder: &Recorder,
) {
    let begun = begin(&mut client, tasks);
    let failed = begun.is_err();
    let _ = ready_sender.send(begun);
    while !failed && let Ok(notice) = client.notice() {
        let record = match notice {
            Notice::Exit(record) => record,
            Notice::CaughtUp(_) => continue,
            Notice::Lost(_) => break,
        };
        let index = record.tag.parse().ok();
        let known = index.filter(|&index| recorder.table.slots().get(index).is_some());
        let (Some(index), Ok(pid)) = (known, Pid::new(record.pid)) else {
            eprintln!("loadgen: the service reported an unknown process: {record:?}");
            continue;
        };
        let delivery = Delivery::begin(index);
        delivery.end(recorder, pid, reap(pid));
    }
}

fn begin(client: &mut Client, tasks: &Receiver<Task>) -> Result<()> {
    client.subscribe(0)?;
    for (pid, index) in tasks {
        let watch = Watch {
            pid: Some(pid.as_raw()),
            tag: index.to_string(),
            ..Watch::default()
        };
        client.watch(watch).context("watching a child")?;
    }
    Ok(())
}

impl Contestant for Service {
    /// Distributes the children over the clients.
    fn watch(&mut self, pid: Pid, index: usize) -> Result<()> {
        let nth = index % self.clients.len();
        self.clients[nth]
            .send((pid, index))
            .map_err(|_| anyhow!("a client of the service has failed"))
    }

    fn wait_until_registered(&mut self) -> Result<()> {
        // Dropping the channels tells the clients that no child follows.
        let clients = std::mem::take(&mut self.clients).len();
        for _ in 0..clients {
            self.ready.recv().context("a client has panicked")??;
        }
        Ok(())
    }

    fn process(&self) -> Option<Pid> {
        Pid::try_from(self.process.id()).ok()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
