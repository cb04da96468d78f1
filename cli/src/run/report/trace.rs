//! The trace of a run (`--trace`), in the JSON array format of Chrome, which Perfetto reads.
//!
//! Each slot is a thread of the trace, and each attempt a complete event on it. Events are written
//! when attempts end, several with one `write(2)`, each preceded by its comma. The format allows
//! the closing bracket to be absent. So a trace that is cut off where a write ends can be read:
//! also after a SIGKILL, and, because an incomplete write is removed, on a full disk.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::termios::isatty;
use serde::Serialize;

use super::file_kind;
use super::record::{OutcomeKind, Record};
use super::text::{one_line, shortened};
use crate::failure::Failure;
use crate::signal_name::name_or_number;

/// Characters of a command in the name of an event, and in its arguments.
const NAME_MAX: usize = 100;
const COMMAND_MAX: usize = 4096;
/// Events are written when they have more bytes, or when the supervisor has no other work.
const BUFFERED_MAX: usize = 64 * 1024;

pub(crate) struct Trace {
    file: File,
    path: PathBuf,
    /// The zero of all times.
    begun: Instant,
    timeout: Option<Duration>,
    process: u32,
    /// Slots up to this one have their names in the trace.
    named_slots: u32,
    /// Events that are not written yet.
    buffer: Vec<u8>,
    /// The length of the events that are written.
    length: u64,
    failure: Option<io::Error>,
}

impl Trace {
    /// Opens the file, removes what an earlier run left in it, and writes the beginning.
    pub(crate) fn create(path: &Path, timeout: Option<Duration>) -> Result<Self, Failure> {
        let name = path.display();
        let unusable =
            |error: io::Error| Failure::usage(format!("cannot open the trace {name}: {error}"));
        let other_kind = || {
            Failure::usage(format!(
                "cannot write the trace {name}: it is not a regular file"
            ))
        };
        // A FIFO without a reader, or a slow one, would block the run.
        if file_kind::may_block(path) {
            return Err(other_kind());
        }
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(unusable)?;
        if isatty(&file) {
            return Err(other_kind());
        }
        // On a file system without locks there are other errors.
        if flock(&file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
            let failure = Failure::usage(format!("another run is writing the trace {name}"));
            return Err(failure.remedy("wait for it to end, or give each run its own trace"));
        }
        if file.metadata().map_err(unusable)?.is_file() {
            file.set_len(0).map_err(unusable)?;
        }
        let mut trace = Self {
            file,
            path: path.into(),
            begun: Instant::now(),
            timeout,
            process: std::process::id(),
            named_slots: 0,
            buffer: b"[\n".to_vec(),
            length: 0,
            failure: None,
        };
        let event = trace.metadata("process_name", 0, "exitring run".into());
        // The first event has no comma before it.
        trace.buffer.extend(to_json(&event));
        Ok(trace)
    }

    /// Adds an attempt that has ended or was not started. `last`: the job is not run again.
    pub(crate) fn add(&mut self, record: &Record<'_>, last: bool) {
        while self.named_slots < record.slot {
            self.named_slots += 1;
            let slot = self.named_slots;
            self.push(&self.metadata("thread_name", slot, format!("slot {slot}")));
        }
        let ran = record.outcome != OutcomeKind::NotStarted;
        let name = one_line(&record.command, NAME_MAX);
        let start = self.micros(record.started);
        let wall = Duration::try_from_secs_f64(record.wall_seconds).unwrap_or_default();
        self.push(&TraceEvent {
            name: &name,
            kind: "X",
            cat: &categories(record, last),
            ts: start,
            dur: Some(self.micros(record.started + wall) - start),
            pid: self.process,
            tid: record.slot,
            scope: None,
            args: Arguments {
                job: record.job,
                attempt: record.attempts,
                command: &shortened(&record.command, COMMAND_MAX),
                result: record.description(),
                exit_code: record.exit_code,
                signal: record.signal,
                cpu_seconds: ran.then(|| record.cpu().as_secs_f64()),
                max_rss_bytes: record.max_rss_bytes,
                flaky: record.flaky,
                slow: record.slow,
                repeat: record.repeat,
            },
        });
        if let (true, Some(timeout)) = (record.timed_out, self.timeout) {
            let ts = start.saturating_add(timeout.as_micros().try_into().unwrap_or(u64::MAX));
            let name = format!("timeout of job {}", record.job);
            self.push(&self.instant(&name, ts, Some(record.slot)));
        }
        self.write_if_large();
    }

    /// Adds a request to end.
    pub(crate) fn interrupted(&mut self, signal: i32) {
        let name = format!("interrupted ({})", name_or_number(signal));
        let now = self.micros(Instant::now());
        self.push(&self.instant(&name, now, None));
    }

    /// Writes what was added. After an error no more can be written.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.write();
        match self.failure.take() {
            None => Ok(()),
            Some(error) => {
                let what = format!(
                    "the trace {}, which lacks the jobs from here on",
                    self.path.display()
                );
                Err(Failure::writing(&what, &error))
            }
        }
    }

    /// Completes the trace at the end of the run.
    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        self.buffer.extend_from_slice(b"\n]\n");
        self.flush()
    }

    fn write_if_large(&mut self) {
        if self.buffer.len() > BUFFERED_MAX {
            self.write();
        }
    }

    fn write(&mut self) {
        if self.buffer.is_empty() || self.failure.is_some() {
            return self.buffer.clear();
        }
        match self.file.write_all(&self.buffer) {
            Ok(()) => self.length += self.buffer.len() as u64,
            Err(error) => {
                // Removes the part of an event that was written. The file may not be a regular one.
                let _ = self.file.set_len(self.length);
                self.failure = Some(error);
            }
        }
        self.buffer.clear();
    }

    fn push(&mut self, event: &impl Serialize) {
        self.buffer.extend_from_slice(b",\n");
        self.buffer.extend(to_json(event));
    }

    fn micros(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.begun);
        since.as_micros().try_into().unwrap_or(u64::MAX)
    }

    /// A name for a thread, or for the process.
    fn metadata(&self, kind: &'static str, tid: u32, name: String) -> impl Serialize + use<> {
        TraceEvent {
            name: kind,
            kind: "M",
            cat: "",
            ts: 0,
            dur: None,
            pid: self.process,
            tid,
            scope: None,
            args: Name { name },
        }
    }

    /// A mark at a time, on the lane of a slot or across all.
    fn instant<'a>(&self, name: &'a str, ts: u64, slot: Option<u32>) -> impl Serialize + use<'a> {
        TraceEvent {
            name,
            kind: "i",
            cat: "end",
            ts,
            dur: None,
            pid: self.process,
            tid: slot.unwrap_or_default(),
            scope: Some(if slot.is_some() { "t" } else { "g" }),
            args: NoArguments {},
        }
    }
}

/// An event of the trace event format.
#[derive(Serialize)]
struct TraceEvent<'a, A> {
    name: &'a str,
    #[serde(rename = "ph")]
    kind: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    cat: &'a str,
    /// Microseconds.
    ts: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    dur: Option<u64>,
    pid: u32,
    tid: u32,
    #[serde(rename = "s", skip_serializing_if = "Option::is_none")]
    scope: Option<&'static str>,
    args: A,
}

#[derive(Serialize)]
struct Name {
    name: String,
}

#[derive(Serialize)]
struct NoArguments {}

/// The arguments of an attempt.
#[derive(Serialize)]
struct Arguments<'a> {
    job: u64,
    attempt: u32,
    command: &'a str,
    result: String,
    exit_code: Option<i32>,
    signal: Option<i32>,
    cpu_seconds: Option<f64>,
    max_rss_bytes: Option<u64>,
    flaky: bool,
    slow: bool,
    /// With `--repeat`.
    #[serde(skip_serializing_if = "Option::is_none")]
    repeat: Option<NonZeroU32>,
}

/// The categories of an attempt, with commas, as the format has them.
fn categories(record: &Record<'_>, last: bool) -> String {
    let ended = match (record.success, record.interrupted) {
        (true, _) => "succeeded",
        (_, true) => "interrupted",
        _ => "failed",
    };
    let others = [
        (!last, ",retried"),
        (record.flaky, ",flaky"),
        (record.slow, ",slow"),
    ];
    let others = others.into_iter().filter(|(holds, _)| *holds);
    others.fold(ended.to_owned(), |text, (_, name)| text + name)
}

fn to_json(event: &impl Serialize) -> Vec<u8> {
    // Events consist of strings and numbers, which JSON can represent.
    serde_json::to_vec(event).unwrap_or_default()
}
