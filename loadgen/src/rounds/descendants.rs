//! The processes that a run leaves: children that execute a program, and what these have started.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Signal, WaitOptions, getpid, kill_process, set_child_subreaper, wait};

use crate::measure::process::children;

/// How long killed processes may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes this process the parent of those whose parents in a run end before them.
pub(super) fn adopt_orphans() -> Result<()> {
    set_child_subreaper(Some(getpid())).context("becoming the subreaper of the runs")
}

/// Kills and reaps all descendants of this process. Those that only reach it when their parent is
/// killed follow.
pub(super) fn end_all() -> Result<()> {
    let start = Instant::now();
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) => {}
            Ok(None) => {
                let left: Vec<_> = children()?.into_iter().map(|(pid, _)| pid).collect();
                ensure!(
                    start.elapsed() < END_TIMEOUT,
                    "processes of the run do not end after SIGKILL: {left:?}; they disturb the next run",
                );
                for pid in left {
                    // Only this process reaps it, so the pid is not used again.
                    if let Some(pid) = rustix::process::Pid::from_raw(pid.as_raw()) {
                        let _ = kill_process(pid, Signal::KILL);
                    }
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            // There are no children.
            Err(_) => return Ok(()),
        }
    }
}
