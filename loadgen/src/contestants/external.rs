//! Contestants that are other programs. They are told on their standard input what to start, and tell of exits
//! on their standard output; what they use is read from the kernel.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use exitring::Pid;

use super::{Contestant, Kind};
use crate::start::Start;
use crate::tally::{Delivery, Tally};

const ASYNCIO: &str = include_str!("../../external/asyncio_contestant.py");
const NODE: &str = include_str!("../../external/node_contestant.js");

/// The interpreter, how it is given a program, and the program.
fn program(kind: Kind) -> Option<(&'static str, [&'static str; 2])> {
    match kind {
        Kind::PythonAsyncio => Some(("python3", ["-c", ASYNCIO])),
        Kind::Node => Some(("node", ["-e", NODE])),
        _ => None,
    }
}

/// Why it cannot be had here, if it cannot.
pub(super) fn missing(kind: Kind) -> Option<String> {
    let (interpreter, _) = program(kind)?;
    let mut version = Command::new(interpreter);
    let version = version.arg("--version").stdin(Stdio::null()).output();
    match version {
        Ok(output) if output.status.success() => None,
        _ => Some(format!("{interpreter} is not installed")),
    }
}

pub(crate) struct External {
    child: Child,
    orders: ChildStdin,
}

impl External {
    pub(crate) fn new(kind: Kind, tally: Arc<Tally>) -> Result<Self> {
        let (interpreter, words) = program(kind).context("it is no other program")?;
        let mut command = Command::new(interpreter);
        command
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        // SAFETY: one system call. It is to end with us, and its children with it.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let mut child = command
            .spawn()
            .with_context(|| format!("starting {interpreter}"))?;
        let orders = child.stdin.take().context("its input is not piped")?;
        let exits = child.stdout.take().context("its output is not piped")?;
        let mut exits = BufReader::new(exits);
        let mut ready = String::new();
        exits
            .read_line(&mut ready)
            .with_context(|| format!("hearing from {interpreter}"))?;
        ensure!(ready == "ready\n", "{interpreter} said {ready:?} at first");
        std::thread::Builder::new()
            .name("external".into())
            .spawn(move || {
                for line in exits.lines().map_while(Result::ok) {
                    if deliver(&line, &tally).is_none() {
                        eprintln!("loadgen: {interpreter} said {line:?}");
                    }
                }
            })
            .context("starting a thread")?;
        Ok(Self { child, orders })
    }
}

/// Slot, pid, code and moment.
fn deliver(line: &str, tally: &Tally) -> Option<()> {
    let mut words = line.split(' ');
    let index: usize = words.next()?.parse().ok()?;
    let pid = Pid::new(words.next()?.parse().ok()?).ok()?;
    let code = words.next()?.parse().ok();
    let known_ns = words.next()?.parse().ok()?;
    // An index that is none of ours would be a panic.
    tally.board.slots().get(index)?;
    Delivery::known_at(index, known_ns).end(tally, pid, code);
    Some(())
}

impl Contestant for External {
    fn watch(&mut self, _: Pid, _: usize) -> Result<()> {
        bail!("it watches only what it starts itself")
    }

    fn spawn(&mut self, start: &Start) -> Result<()> {
        let words = start.words()?.join("\t");
        writeln!(self.orders, "{}\t{words}", start.index()).context("giving it an order")
    }

    fn process(&self) -> Option<Pid> {
        Pid::try_from(self.child.id()).ok()
    }
}
