//! `exitring wait`: waits until processes have ended, and reports how.
//!
//! `ends` watches the processes and decides when the outcome of each is final.

mod ends;
mod options;

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::time::Instant;

use exitring::{Outcome, Pid, WatchError, Watcher};
use serde::Serialize;

use self::ends::{End, Ends};
pub(crate) use self::options::Options;
use crate::code;
use crate::diagnostics::say;
use crate::failure::{Failure, chain};
use crate::signal_name::signal_name;
use crate::stdio;

/// Waits for the processes, and reports their ends. Returns the exit code.
pub(crate) fn wait(options: &Options) -> Result<u8, Failure> {
    let begun = Instant::now();
    // A timeout past the end of the clock never expires.
    let until = options
        .timeout
        .and_then(|timeout| begun.checked_add(timeout));
    let pids = BTreeSet::from_iter(options.pids.iter().copied());
    if pids
        .iter()
        .any(|pid| pid.as_raw().unsigned_abs() == std::process::id())
    {
        return Err(
            Failure::usage("this process would wait for itself for ever")
                .remedy("leave out the id of exitring itself"),
        );
    }

    let no_watcher = |error: exitring::BuildError| {
        Failure::resource(chain(&error))
            .remedy("`exitring doctor` reports what this machine allows")
    };
    let watcher = Watcher::builder().workers(0).build().map_err(no_watcher)?;
    let exits = watcher.exits(pids.len() * 2).map_err(no_watcher)?;
    let (mut ends, refused) = Ends::watch(&watcher, exits, pids);
    let Some(refused) = report_refused(refused, options.jsonl)? else {
        return Ok(code::BROKEN_PIPE);
    };

    let mut reported = 0;
    let wanted = if options.any { 1 } else { usize::MAX };
    while !ends.are_all_reported() && reported < wanted {
        let next = ends
            .next(until)
            .map_err(|error| Failure::resource(chain(&error)))?;
        let Some(end) = next else {
            let left: Vec<_> = ends.running().map(|pid| pid.to_string()).collect();
            say(&format!(
                "the timeout expired; still running: {}\n",
                left.join(" ")
            ));
            return Ok(code::TIMED_OUT);
        };
        reported += 1;
        if !report(&end, options.jsonl, begun)? {
            return Ok(code::BROKEN_PIPE);
        }
    }
    match options.any && reported > 0 {
        // One has ended; the others do not matter.
        true => Ok(code::OK),
        false => Ok(refused),
    }
}

/// Reports the processes that cannot be waited for. Returns their exit code, or `None` if the
/// reader of standard output has closed it.
fn report_refused(refused: Vec<(Pid, WatchError)>, jsonl: bool) -> Result<Option<u8>, Failure> {
    let mut worst = code::OK;
    for (pid, error) in refused {
        let code = match &error {
            WatchError::NoSuchProcess { .. } => code::SOME_FAILED,
            WatchError::Thread { .. } => code::USAGE,
            _ => code::RESOURCE,
        };
        worst = worst.max(code);
        let error = chain(&error);
        Failure::new(code, format!("cannot wait for {pid}: {error}")).report();
        let record = Refused {
            kind: "error",
            pid: pid.as_raw(),
            error,
        };
        if jsonl && !print(&serde_json::to_string(&record).unwrap_or_default())? {
            return Ok(None);
        }
    }
    Ok(Some(worst))
}

/// The record of a process that cannot be waited for.
#[derive(Serialize)]
struct Refused {
    #[serde(rename = "type")]
    kind: &'static str,
    pid: i32,
    error: String,
}

/// The record of a process that ended.
#[derive(Serialize)]
struct Record {
    #[serde(rename = "type")]
    kind: &'static str,
    pid: i32,
    outcome: &'static str,
    exit_code: Option<i32>,
    signal: Option<i32>,
    reason: Option<String>,
    waited_seconds: f64,
}

/// Reports an end. Returns `false` if the reader of standard output has closed it.
fn report(end: &End, jsonl: bool, begun: Instant) -> Result<bool, Failure> {
    let pid = end.pid;
    let reason = |why: &dyn ToString| end.reason.clone().unwrap_or_else(|| why.to_string());
    let line = match jsonl {
        false => match end.outcome {
            Outcome::Exited(code) => format!("{pid} exited with code {code}"),
            Outcome::Signaled { signal, .. } => {
                format!("{pid} was ended by signal {signal}{}", signal_name(signal))
            }
            Outcome::Unknown(why) => {
                format!("{pid} ended; its status is unknown: {}", reason(&why))
            }
            other => format!("{pid} ended: {other}"),
        },
        true => {
            let (outcome, exit_code, signal, reason) = match end.outcome {
                Outcome::Exited(code) => ("exited", Some(code), None, None),
                Outcome::Signaled { signal, .. } => ("signaled", None, Some(signal), None),
                Outcome::Unknown(why) => ("unknown", None, None, Some(reason(&why))),
                other => ("unknown", None, None, Some(reason(&other))),
            };
            let waited_seconds = begun.elapsed().as_secs_f64();
            let record = Record {
                kind: "exit",
                pid: pid.as_raw(),
                outcome,
                exit_code,
                signal,
                reason,
                waited_seconds,
            };
            serde_json::to_string(&record).unwrap_or_default()
        }
    };
    print(&line)
}

/// Prints a line. Returns `false` if the reader of standard output has closed it.
fn print(line: &str) -> Result<bool, Failure> {
    match stdio::write_out(format!("{line}\n").as_bytes()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::writing("standard output", &error)),
    }
}
