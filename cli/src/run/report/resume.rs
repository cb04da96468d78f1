//! What a former run has done, by its job log.
//!
//! Memory does not grow with the log: which jobs are done is a compressed bitmap, and that each is the same command
//! as then is checked in step with the list, by a second reading of the log. Jobs end nearly in the order of their numbers, so
//! few records have to be kept for later.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use roaring::RoaringTreemap;

use crate::failure::Failure;
use crate::run::job::Order;
use crate::run::report::joblog::Lines;
use crate::run::report::record::Logged;

pub(crate) struct Resume {
    path: PathBuf,
    /// Jobs that are not run again.
    done: RoaringTreemap,
    /// Of these, the ones that failed.
    failed: RoaringTreemap,
    /// All that the log knows.
    logged: RoaringTreemap,
    lines: Lines,
    line: u64,
    /// Hashes of commands further down the list, by number.
    ahead: HashMap<u64, u64>,
}

/// What is to become of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Run,
    Done { failed: bool },
}

impl Resume {
    /// Reads the log, to `length`. `failed_again`: only successes are done.
    pub(crate) fn read(path: &Path, length: u64, failed_again: bool) -> Result<Self, Failure> {
        let open = || Lines::open(path, length).map_err(|error| cannot_read(path, &error));
        let mut resume = Self {
            path: path.to_owned(),
            done: RoaringTreemap::new(),
            failed: RoaringTreemap::new(),
            logged: RoaringTreemap::new(),
            lines: open()?,
            line: 0,
            ahead: HashMap::new(),
        };
        while let Some((job, _, state)) = resume.next_record()? {
            resume.logged.insert(job);
            match state {
                State::Interrupted => {}
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
        if failed_again {
            resume.done -= &resume.failed;
            resume.failed.clear();
        }
        resume.lines = open()?;
        resume.line = 0;
        Ok(resume)
    }

    /// What becomes of a job of the list; asked in the order of the numbers.
    pub(crate) fn verdict(&mut self, number: u64, order: &Order) -> Result<Verdict, Failure> {
        if !self.logged.contains(number) {
            return Ok(Verdict::Run);
        }
        let logged = self.logged_hash(number)?;
        if logged != Some(order.hash()) {
            let cause = format!(
                "job {number} is {:?} now, and was another command when the job log {} was written",
                order.text(),
                self.path.display()
            );
            return Err(Failure::usage(cause)
                .remedy("resume with the same list, or begin anew with another --joblog"));
        }
        Ok(match self.done.contains(number) {
            true => Verdict::Done {
                failed: self.failed.contains(number),
            },
            false => Verdict::Run,
        })
    }

    fn logged_hash(&mut self, number: u64) -> Result<Option<u64>, Failure> {
        if let Some(hash) = self.ahead.remove(&number) {
            return Ok(Some(hash));
        }
        while let Some((job, hash, _)) = self.next_record()? {
            if job == number {
                return Ok(Some(hash));
            }
            // What is behind us was asked for already: logged twice.
            if job > number {
                self.ahead.insert(job, hash);
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
        let record = serde_json::from_slice::<Logged>(line).ok();
        let record = record.and_then(|logged| {
            let hash = u64::from_str_radix(&logged.hash, 16).ok()?;
            let state = match (logged.interrupted, logged.success) {
                (true, _) => State::Interrupted,
                (false, true) => State::Success,
                (false, false) => State::Failed,
            };
            Some((logged.job, hash, state))
        });
        record.map(Some).ok_or_else(|| {
            let cause = format!("line {} of the job log {} is no record of a job", self.line, self.path.display());
            Failure::usage(cause).remedy("give a log that `exitring run --joblog` wrote, or take that line out: its job is run again")
        })
    }
}

enum State {
    Success,
    Failed,
    Interrupted,
}

fn cannot_read(path: &Path, error: &io::Error) -> Failure {
    Failure::usage(format!(
        "cannot read the job log {}: {error}",
        path.display()
    ))
}
