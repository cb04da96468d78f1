//! The process that makes one run, seen from both sides of its pipe.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::{descendants, warnings};
use crate::measure::interrupt::{self, interrupted};
use crate::measure::quiet_stdout::QuietStdout;
use crate::scenarios;
use crate::types::run::Run;
use crate::types::run_spec::RunSpec;

/// What the process writes to its pipe.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Answer {
    Run(Box<Run>),
    Error(String),
}

/// The process that makes a run at the moment.
static CURRENT: Mutex<Option<Pid>> = Mutex::new(None);

/// Forwards an interrupt to the current process, which ends its children and returns the partial
/// result. The second interrupt kills the process, in case it hangs.
pub(super) fn forward_interrupt() {
    static BEFORE: AtomicBool = AtomicBool::new(false);
    // The lock is held meanwhile, so that the process is not reaped before it gets the signal.
    let current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(pid) = *current {
        let again = BEFORE.swap(true, Ordering::SeqCst);
        let _ = kill_process(pid, if again { Signal::KILL } else { Signal::INT });
    }
}

fn set_current(pid: Option<Pid>) {
    *CURRENT.lock().unwrap_or_else(PoisonError::into_inner) = pid;
}

/// Starts a process of a build that makes a run, and waits for the result.
pub(super) fn run(program: &Path, spec: &RunSpec) -> Result<Run> {
    let mut child = Command::new(program)
        .arg("measure")
        .arg(serde_json::to_string(spec)?)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // Ctrl-C at the terminal interrupts only this process, which forwards it. The children of
        // the run must not get the signal.
        .process_group(0)
        .spawn()
        .context("starting a process for the run")?;
    set_current(Pid::from_raw(child.id() as i32));
    if interrupted() {
        // The interrupt may have come before `CURRENT` was set.
        forward_interrupt();
    }
    let answer = read_answer(&mut child);
    // The process is not reaped yet, so the pid has not been reused.
    set_current(None);
    let status = child.wait().context("waiting for the process of the run")?;
    if let Err(error) = descendants::end_all() {
        eprintln!("loadgen: {error:#}");
    }
    match answer.and_then(|answer| Ok(serde_json::from_str(&answer)?)) {
        Ok(Answer::Run(run)) => Ok(*run),
        Ok(Answer::Error(why)) => bail!(why),
        Err(error) => Err(error.context(format!("the process of the run ended with {status}"))),
    }
}

fn read_answer(child: &mut Child) -> Result<String> {
    let mut answer = String::new();
    let mut pipe = child.stdout.take().context("its output is not piped")?;
    pipe.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Makes a run in this process and writes the result to standard output.
pub(crate) fn measure(spec: &RunSpec) -> Result<ExitCode> {
    interrupt::install_handler(|| ())?;
    // If the reader of the answer is gone, the run is of no use.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .context("requesting a signal when the parent process ends")?;
    let quiet = QuietStdout::new()?;
    let answer = match scenarios::measure(spec) {
        Ok(mut run) => {
            run.warnings = warnings::about_run(&run);
            Answer::Run(Box::new(run))
        }
        Err(error) => Answer::Error(format!("{error:#}")),
    };
    drop(quiet);
    println!("{}", serde_json::to_string(&answer)?);
    Ok(ExitCode::SUCCESS)
}
