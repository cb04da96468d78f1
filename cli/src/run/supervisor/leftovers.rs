//! The end of what a contained job has left in its cgroup.
//!
//! The library could kill it as soon as the job's process has ended (`Command::kill_leftovers`).
//! That would also take away the rest of the grace from the group of a job that a deadline has
//! ended. So the supervisor does it: at once for a job that has ended by itself, and otherwise when
//! no process of its group is left, or the grace is over.

use std::fmt::Write as _;
use std::fs;

use exitring::{CgroupReport, SignalError};

use super::Supervisor;

/// How many processes a message lists.
const SHOWN: usize = 5;

impl Supervisor {
    /// Kills the processes that are left of a job whose process has ended. They hold its pipes, so
    /// the output of the job ends as well.
    pub(super) fn kill_leftovers(&mut self, number: u64) {
        let Some(running) = self.running.get(&number) else {
            return;
        };
        let Some((exit, report)) = running
            .exit
            .as_ref()
            .and_then(|exit| Some((exit, exit.cgroup()?)))
        else {
            return;
        };
        if report.leftover_count() == 0 && report.is_complete() {
            return;
        }
        let leaky = !exit.by_deadline() && report.leftover_count() > 0;
        let text = leaky.then(|| describe(number, report));
        let killed = running.child.kill_tree();
        if let Some(text) = text {
            self.report(&text);
        }
        match killed {
            Ok(()) | Err(SignalError::NoCgroup) => {}
            Err(error) => self.report(&format!(
                "the processes that job {number} left cannot be killed: {error}\n"
            )),
        }
    }
}

/// Lists the processes, before they are killed.
fn describe(number: u64, report: &CgroupReport) -> String {
    let count = report.leftover_count();
    let mut text = match count {
        1 => format!("job {number} left a process behind, which is killed"),
        _ => format!("job {number} left {count} processes behind, which are killed"),
    };
    let shown = report.leftover().iter().take(SHOWN);
    for (index, pid) in shown.enumerate() {
        let comma = if index > 0 { "," } else { ":" };
        // The process may have ended, and its number may even be that of another one.
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let name: String = name
            .trim_end()
            .chars()
            .filter(|c| !c.is_control())
            .collect();
        let name = if name.is_empty() { "process" } else { &name };
        let _ = write!(text, "{comma} {name} ({pid})");
    }
    text.push_str(if count > SHOWN { " and others\n" } else { "\n" });
    text
}
