//! `exitring serve` with its clients: the service is a process of its own, the clients are threads of this one, each with a
//! connection, and reap what they are told of.

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

use super::{Contestant, Kind};
use crate::scenarios::{Order, Scenario};
use crate::tally::{Delivery, Tally, reap};

/// How long the service may take to answer at first.
const START: Duration = Duration::from_secs(10);

/// What a client is to have watched.
type Task = (Pid, usize);

pub(crate) struct Service {
    process: Child,
    _folder: TempDir,
    clients: Vec<Sender<Task>>,
    /// Each client says when all its watches have begun, or why not.
    ready: Receiver<Result<()>>,
}

/// The program, built beside this one.
fn program() -> Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name("exitring");
    ensure!(
        program.is_file(),
        "{} is not there; build it with cargo build -p exitring-cli, with --release if this is",
        program.display()
    );
    Ok(program)
}

/// Why it cannot be had here, if it cannot.
pub(super) fn missing() -> Option<String> {
    program().err().map(|error| error.to_string())
}

impl Service {
    pub(crate) fn new(order: &Order, tally: &Arc<Tally>) -> Result<Self> {
        let Scenario::Serve(options) = &order.scenario else {
            bail!("it takes part in serve only");
        };
        let place = options.state.clone().unwrap_or_else(std::env::temp_dir);
        let folder = TempDir::with_prefix_in("loadgen-serve-", place).context("making a folder")?;
        let socket = folder.path().join("socket");
        let durability = match order.kind {
            Kind::ServePower => "power",
            _ => "process",
        };
        let mut command = Command::new(program()?);
        command
            .args(["serve", "--durability", durability, "--socket"])
            .arg(&socket)
            .arg("--state")
            .arg(folder.path().join("state"))
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null());
        // SAFETY: one system call. It is to end with us.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let process = command.spawn().context("starting exitring serve")?;
        let (say_ready, ready) = channel();
        let mut this = Self {
            process,
            _folder: folder,
            clients: Vec::new(),
            ready,
        };
        this.wait_until_it_answers(&socket)?;
        for nth in 0..options.clients {
            let client = Client::connect(&socket, Some(&format!("client-{nth}")))?;
            let (task, tasks) = channel();
            let (tally, say_ready) = (Arc::clone(tally), say_ready.clone());
            std::thread::Builder::new()
                .name(format!("client-{nth}"))
                .stack_size(256 * 1024)
                .spawn(move || be_a_client(client, &tasks, &say_ready, &tally))
                .context("starting a client's thread")?;
            this.clients.push(task);
        }
        Ok(this)
    }

    fn wait_until_it_answers(&mut self, socket: &Path) -> Result<()> {
        let start = Instant::now();
        while let Err(error) = Client::connect(socket, None) {
            if let Some(status) = self.process.try_wait()? {
                bail!("exitring serve has ended: {status}");
            }
            if start.elapsed() > START {
                return Err(anyhow!(error)).context("exitring serve does not answer");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

fn be_a_client(
    mut client: Client,
    tasks: &Receiver<Task>,
    say_ready: &Sender<Result<()>>,
    tally: &Tally,
) {
    let begun = begin(&mut client, tasks);
    let failed = begun.is_err();
    let _ = say_ready.send(begun);
    while !failed && let Ok(notice) = client.notice() {
        let record = match notice {
            Notice::Exit(record) => record,
            Notice::CaughtUp(_) => continue,
            Notice::Lost(_) => break,
        };
        let index = record.tag.parse().ok();
        let known = index.filter(|&index| tally.board.slots().get(index).is_some());
        let (Some(index), Ok(pid)) = (known, Pid::new(record.pid)) else {
            eprintln!("loadgen: a record of what nobody watches: {record:?}");
            continue;
        };
        let delivery = Delivery::begin(index);
        delivery.end(tally, pid, reap(pid));
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
    /// By the clients in turns.
    fn watch(&mut self, pid: Pid, index: usize) -> Result<()> {
        let nth = index % self.clients.len();
        self.clients[nth]
            .send((pid, index))
            .map_err(|_| anyhow!("a client of the service has failed"))
    }

    fn settle(&mut self) -> Result<()> {
        // No more is to come.
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
