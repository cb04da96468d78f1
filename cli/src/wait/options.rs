//! The options of `exitring wait`.

use std::time::Duration;

use clap::Args;
use exitring::Pid;

use crate::duration;

const EXAMPLES: &str = "\
Examples:
  exitring wait 4711                      until that process ends
  exitring wait --any $(pgrep ffmpeg)     until one of them ends
  exitring wait --timeout 30s 4711; [ $? -eq 124 ] && kill -9 4711
  exitring wait --jsonl 4711 4712 | jq .exit_code

Exit status: 0 the processes ended; 1 no such process; 2 usage; 3 a resource ran out; 124 timeout; 130 interrupted.";

/// Wait for processes to end, children or not, and report their status
///
/// The kernel reports the status of a process to its parent. From Linux 6.15 on it also reports it
/// to other processes, once the parent has reaped the process. So when a process ends, its parent
/// has a second to reap it; if it does not, the status is unknown, and the reason is printed.
/// Processes are only watched: their parents still reap them.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// The processes, by their ids
    ///
    /// A process that is named twice is waited for once.
    #[arg(required = true, value_name = "PID", value_parser = parse_pid, allow_negative_numbers = true)]
    pub(crate) pids: Vec<Pid>,

    /// Wait until one process has ended
    #[arg(long, conflicts_with = "all")]
    pub(crate) any: bool,

    /// Wait until all processes have ended (default)
    #[arg(long)]
    pub(crate) all: bool,

    /// Wait no longer than this, as in 90, 300ms, 1m30s
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub(crate) timeout: Option<Duration>,

    /// Report each end as a line of JSON
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
