//! What an earlier run has done, according to its job log.
//!
//! Memory does not grow with the log. A compressed bitmap holds which jobs are done. A second pass
//! over the log, in step with the list, checks that each job is the same command as before. Jobs
//! end nearly in the order of their numbers, so few hashes have to be kept for later.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use roaring::RoaringTreemap;
use serde::Deserialize;

use crate::failure::Failure;
use crate::run::command_spec::CommandSpec;

pub(crate) struct Resume {
    path: PathBuf,
    /// Jobs that are not run again.
    done: RoaringTreemap,
    /// Those of them that failed.
    failed: RoaringTreemap,
    /// All jobs in the log.
    logged: RoaringTreemap,
    lines: Lines,
    line: u64,
    /// Hashes of commands that come later in the list, by job number.
    read_ahead: HashMap<u64, u64>,
}

/// What to do with a job of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResumeAction {
    Run,
    Skip { failed: bool },
}

impl Resume {
    /// Reads the log up to `length`. With `retry_failed`, only jobs that succeeded are done.
    pub(crate) fn read(path: &Path, length: u64, retry_failed: bool) -> Result<Self, Failure> {
        let open = || Lines::open(path, length).map_err(|error| cannot_read(path, &error));
        let mut resume = Self {
            path: path.to_owned(),
            done: RoaringTreemap::new(),
            failed: RoaringTreemap::new(),
            logged: RoaringTreemap::new(),
            lines: open()?,
            line: 0,
            read_ahead: HashMap::new(),
        };
        while let Some((job, _, state)) = resume.next_record()? {
            resume.logged.insert(job);
            match state {
                // It may have failed before, and was run again by --resume-failed.
                State::Interrupted => {
                    resume.done.remove(job);
                    resume.failed.remove(job);
                }
                State::Success => {
                    resume.done.insert(job);
                    resume.failed.remove(job);
                }
                State::Failed => {
                    resume.done.insert(job);
                    resume.failed.insert(job);
                }
            }
        }
        if retry_failed {
            resume.done -= &resume.failed;
            resume.failed.clear();
        }
        resume.lines = open()?;
        resume.line = 0;
        Ok(resume)
    }

    /// What to do with a job. The caller asks in the order of the numbers.
    pub(crate) fn action(
        &mut self,
        number: u64,
        command: &CommandSpec,
    ) -> Result<ResumeAction, Failure> {
        if !self.logged.contains(number) {
            return Ok(ResumeAction::Run);
        }
        let logged = self.logged_hash(number)?;
        if logged != Some(command.hash()) {
            let cause = format!(
                "job {number} is {:?} now, but was another command when the job log {} was written",
                command.text(0),
                self.path.display()
            );
            return Err(Failure::usage(cause)
                .remedy("resume with the same list, or start again with another --joblog"));
        }
        Ok(match self.done.contains(number) {
            true => ResumeAction::Skip {
                failed: self.failed.contains(number),
            },
            false => ResumeAction::Run,
        })
    }

    fn logged_hash(&mut self, number: u64) -> Result<Option<u64>, Failure> {
        if let Some(hash) = self.read_ahead.remove(&number) {
            return Ok(Some(hash));
        }
        while let Some((job, hash, _)) = self.next_record()? {
            if job == number {
                return Ok(Some(hash));
            }
            // A smaller number was asked for already: the job was logged twice.
            if job > number {
                self.read_ahead.insert(job, hash);
            }
        }
        Ok(None)
    }

    fn next_record(&mut self) -> Result<Option<(u64, u64, State)>, Failure> {
        self.line += 1;
        let line = self
            .lines
            .next()
            .map_err(|error| cannot_read(&self.path, &error))?;
        let Some(line) = line else {
            return Ok(None);
        };
        let record = serde_json::from_slice::<LoggedRecord>(line).ok();
        let record = record.and_then(|logged| {
            let hash = u64::from_str_radix(&logged.hash, 16).ok()?;
            let state = match (logged.interrupted, logged.success) {
                (true, _) => State::Interrupted,
                (false, true) => State::Success,
                (false, false) => State::Failed,
            };
            Some((logged.job, hash, state))
        });
        record
            .map(Some)
            .ok_or_else(|| not_a_record(&self.path, self.line))
    }
}

enum State {
    Success,
    Failed,
    Interrupted,
}

/// The fields of a log record that are read.
#[derive(Debug, Deserialize)]
struct LoggedRecord {
    job: u64,
    success: bool,
    interrupted: bool,
    hash: String,
}

/// Lines of a file up to a position, each without its end.
pub(super) struct Lines {
    reader: io::Take<BufReader<File>>,
    line: Vec<u8>,
}

impl Lines {
    pub(super) fn open(path: &Path, length: u64) -> io::Result<Self> {
        let reader = io::Read::take(BufReader::new(File::open(path)?), length);
        Ok(Self {
            reader,
            line: Vec::new(),
        })
    }

    pub(super) fn next(&mut self) -> io::Result<Option<&[u8]>> {
        self.line.clear();
        match self.reader.read_until(b'\n', &mut self.line)? {
            0 => Ok(None),
            _ => Ok(Some(self.line.trim_ascii_end())),
        }
    }
}

/// The error that a line of a log is something else.
pub(super) fn not_a_record(path: &Path, line: u64) -> Failure {
    let cause = format!(
        "line {line} of the job log {} is not a record of a job",
        path.display()
    );
    Failure::usage(cause).remedy("give a log that `exitring run --joblog` wrote, or remove the line: its job then runs again")
}

fn cannot_read(path: &Path, error: &io::Error) -> Failure {
    Failure::usage(format!(
        "cannot read the job log {}: {error}",
        path.display()
    ))
}
