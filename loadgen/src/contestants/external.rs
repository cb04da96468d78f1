//! Contestants that are other programs. They read spawn requests from standard input, and write
//! exits to standard output. Their CPU time, memory and descriptors are read from the kernel.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use exitring::Pid;
use tempfile::TempDir;

use super::contestant::Contestant;
use super::toolchain::{self, Built};
use crate::measure::program::{OUTPUT_BYTES, Program};
use crate::measure::recorder::{Delivery, Recorder};
use crate::measure::spawn_request::SpawnRequest;
use crate::types::run_spec::RunSpec;
use crate::types::scenario::Scenario;

pub(crate) struct External {
    child: Child,
    requests: ChildStdin,
    /// The compiled program, removed when this is dropped.
    _directory: Option<TempDir>,
}

impl External {
    pub(crate) fn new(spec: &RunSpec, recorder: Arc<Recorder>) -> Result<Self> {
        let kind = spec.kind;
        let Built {
            mut command,
            directory,
        } = toolchain::build(kind)?;
        let name = kind.name();
        let captures = matches!(spec.scenario, Scenario::Capture(_));
        let output_bytes = if captures { OUTPUT_BYTES } else { 0 };
        if captures {
            command.env("LOADGEN_CAPTURE", "1");
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        // SAFETY: one system call. It ends the program with this process, and thereby its children.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let mut child = command
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        let requests = child.stdin.take().context("its input is not piped")?;
        let exits = child.stdout.take().context("its output is not piped")?;
        let mut exits = BufReader::new(exits);
        let mut ready = String::new();
        exits
            .read_line(&mut ready)
            .with_context(|| format!("reading from {name}"))?;
        ensure!(
            ready == "ready\n",
            "{name} wrote {ready:?} instead of \"ready\""
        );
        std::thread::Builder::new()
            .name("external".into())
            .spawn(move || {
                for line in exits.lines().map_while(Result::ok) {
                    if deliver(&line, &recorder, output_bytes).is_none() {
                        eprintln!("loadgen: {name} wrote an unexpected line: {line:?}");
                    }
                }
            })
            .context("starting a thread")?;
        Ok(Self {
            child,
            requests,
            _directory: directory,
        })
    }
}

/// Records an exit: slot, pid, exit code, time, and the length of the output.
fn deliver(line: &str, recorder: &Recorder, output_bytes: usize) -> Option<()> {
    let mut words = line.split(' ');
    let index: usize = words.next()?.parse().ok()?;
    let pid = Pid::new(words.next()?.parse().ok()?).ok()?;
    let code = words.next()?.parse().ok();
    let known_ns = words.next()?.parse().ok()?;
    let bytes: usize = words.next()?.parse().ok()?;
    let code = code.filter(|_| bytes == output_bytes);
    // An index beyond the table would panic.
    recorder.table.slots().get(index)?;
    Delivery::known_at(index, known_ns).end(recorder, pid, code);
    Some(())
}

impl Contestant for External {
    fn watch(&mut self, _: Pid, _: usize) -> Result<()> {
        bail!("it watches only children that it starts itself")
    }

    fn spawn(&mut self, request: &SpawnRequest) -> Result<Option<Pid>> {
        let words = request.argv()?.join("\t");
        writeln!(self.requests, "{}\t{words}", request.index())
            .context("sending a spawn request")?;
        Ok(None)
    }

    fn capture(&mut self, index: usize, program: &Arc<Program>) -> Result<Option<Pid>> {
        let program = Arc::clone(program);
        self.spawn(&SpawnRequest::Program { index, program })
    }

    fn process(&self) -> Option<Pid> {
        Pid::try_from(self.child.id()).ok()
    }
}
