//! The options of `exitring wait`.

use std::time::Duration;

use clap::Args;
use exitring::Pid;

use crate::duration;

const DETAILS: &str = "\
Examples:
  exitring wait 4711                       until that process ends
  exitring wait --any $(pgrep ffmpeg)      until one of them does
  exitring wait --timeout 30s 4711; [ $? -eq 124 ] && kill -9 4711
  exitring wait --jsonl 4711 4712 | jq .exit_code

How a process ended the kernel tells its parent, and from Linux 6.15 on others, too, once the parent has reaped it. So when
a process has ended, its parent is given a second to reap it; if it does not, the status is unknown, with the reason. A
process is only watched: nothing is taken from its parent.

With --jsonl there is a line {\"type\":\"exit\", pid, outcome (exited, signaled, unknown), exit_code, signal, reason, waited_seconds}
for each process that ended, and {\"type\":\"error\", pid, error} for each that cannot be waited for. Other fields may be added.

Exit code: 0 all ended (--any: one did, whatever became of the others), however they ended; 1 there is no such process, or the status of none could be waited
for; 2 the command line is wrong; 3 something ran out or is denied; 124 the time was over; 130 interrupted.";

/// Wait for processes to end, children or not, and tell how they did where the kernel tells
#[derive(Debug, Args)]
#[command(after_long_help = DETAILS, after_help = "--help tells all, with examples.")]
pub(crate) struct Options {
    /// Processes, by their ids; one that is named twice is waited for once
    #[arg(required = true, value_name = "PID", value_parser = parse_pid, allow_negative_numbers = true)]
    pub(crate) pids: Vec<Pid>,

    /// Until one has ended
    #[arg(long, conflicts_with = "all")]
    pub(crate) any: bool,

    /// Until all have ended; so it is without --any
    #[arg(long)]
    pub(crate) all: bool,

    /// No longer than this, as in 90, 300ms, 1m30s
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub(crate) timeout: Option<Duration>,

    /// Tell each end as a line of JSON
    #[arg(long)]
    pub(crate) jsonl: bool,
}

fn parse_pid(text: &str) -> Result<Pid, String> {
    let number: i64 = text
        .parse()
        .map_err(|_| "a process id is a positive number".to_owned())?;
    let number =
        i32::try_from(number).map_err(|_| format!("no process has an id beyond {}", i32::MAX))?;
    Pid::try_from(number).map_err(|error| error.to_string())
}
