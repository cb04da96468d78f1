//! Contestants that are other programs. They read spawn requests from standard input, and write
//! exits to standard output. Their CPU time, memory and descriptors are read from the kernel.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use exitring::Pid;

use super::contestant::Contestant;
use crate::measure::recorder::{Delivery, Recorder};
use crate::measure::spawn_request::SpawnRequest;
use crate::types::kind::Kind;

const ASYNCIO: &str = include_str!("../../external/asyncio_contestant.py");
const NODE: &str = include_str!("../../external/node_contestant.js");

/// The interpreter, its option for a program text, and the program.
fn program(kind: Kind) -> Option<(&'static str, [&'static str; 2])> {
    match kind {
        Kind::PythonAsyncio => Some(("python3", ["-c", ASYNCIO])),
        Kind::Node => Some(("node", ["-e", NODE])),
        _ => None,
    }
}

/// The reason why the contestant cannot run here, if there is one.
pub(super) fn missing(kind: Kind) -> Option<String> {
    let (interpreter, _) = program(kind)?;
    let mut version = Command::new(interpreter);
    let version = version.arg("--version").stdin(Stdio::null()).output();
    match version {
        Ok(output) if output.status.success() => None,
        _ => Some(format!(
            "{interpreter} is not installed; install it and add it to PATH"
        )),
    }
}

pub(crate) struct External {
    child: Child,
    requests: ChildStdin,
}

impl External {
    pub(crate) fn new(kind: Kind, recorder: Arc<Recorder>) -> Result<Self> {
        let (interpreter, words) =
            program(kind).context("the contestant is not another program")?;
        let mut command = Command::new(interpreter);
        command
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        // SAFETY: one system call. It ends the program with this process, and thereby its children.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let mut child = command
            .spawn()
            .with_context(|| format!("starting {interpreter}"))?;
        let requests = child.stdin.take().context("its input is not piped")?;
        let exits = child.stdout.take().context("its output is not piped")?;
        let mut exits = BufReader::new(exits);
        let mut ready = String::new();
        exits
            .read_line(&mut ready)
            .with_context(|| format!("reading from {interpreter}"))?;
        ensure!(
            ready == "ready\n",
            "{interpreter} wrote {ready:?} instead of \"ready\""
        );
        std::thread::Builder::new()
            .name("external".into())
            .spawn(move || {
                for line in exits.lines().map_while(Result::ok) {
                    if deliver(&line, &recorder).is_none() {
                        eprintln!("loadgen: {interpreter} wrote an unexpected line: {line:?}");
                    }
                }
            })
            .context("starting a thread")?;
        Ok(Self { child, requests })
    }
}

/// Records an exit: slot, pid, exit code and time.
fn deliver(line: &str, recorder: &Recorder) -> Option<()> {
    let mut words = line.split(' ');
    let index: usize = words.next()?.parse().ok()?;
    let pid = Pid::new(words.next()?.parse().ok()?).ok()?;
    let code = words.next()?.parse().ok();
    let known_ns = words.next()?.parse().ok()?;
    // An index beyond the table would panic.
    recorder.table.slots().get(index)?;
    Delivery::known_at(index, known_ns).end(recorder, pid, code);
    Some(())
}

impl Contestant for External {
    fn watch(&mut self, _: Pid, _: usize) -> Result<()> {
        bail!("it watches only children that it starts itself")
    }

    fn spawn(&mut self, request: &SpawnRequest) -> Result<()> {
        let words = request.argv()?.join("\t");
        writeln!(self.requests, "{}\t{words}", request.index()).context("sending a spawn request")
    }

    fn process(&self) -> Option<Pid> {
        Pid::try_from(self.child.id()).ok()
    }
}
