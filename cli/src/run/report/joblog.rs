//! The job log: a record for each finished job, from which an interrupted run can be resumed.
//!
//! The records are JSON lines, the same as those of `--output jsonl`: any tool can read them, and
//! commands need no escapes for tabs and line ends. One `write(2)` writes each record. So all lines
//! but the last are complete whatever kills this process, and the next run repairs the last one.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::termios::isatty;
use serde::Serialize;

use super::file_kind;
use super::json::to_json_line;
use super::record::Record;
use super::resume::Resume;
use crate::failure::Failure;
use crate::run::job::Job;

/// The start of each line.
const RECORD_BEGINS: &[u8] = br#"{"type":"job","job":"#;

pub(crate) struct JobLog {
    file: File,
    path: PathBuf,
    /// The length of the complete records.
    length: u64,
    /// A record could not be written, which was reported. No more are written. The file stays
    /// locked, because jobs of this run go on.
    failed: bool,
}

/// What to do with the records of an earlier run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExistingLog {
    /// Refuse a log that has records.
    Refuse,
    /// Skip jobs that are done.
    Resume,
    /// Skip jobs that succeeded, and run again those that failed.
    ResumeFailed,
}

impl JobLog {
    /// Opens and locks the log, and reads what an earlier run left in it.
    pub(crate) fn open(
        path: &Path,
        existing_log: ExistingLog,
    ) -> Result<(Self, Option<Resume>), Failure> {
        let name = path.display().to_string();
        let unreadable =
            |error: io::Error| Failure::usage(format!("cannot open the job log {name}: {error}"));
        // A reader that does not read would block the supervisor. Nor would a closed FIFO be an
        // error, because this process has it open for reading, too.
        check_kind(path)?;
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path)
            .map_err(unreadable)?;
        if isatty(&file) {
            return Err(not_regular(path));
        }
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let failure = Failure::usage(format!("another run is writing the job log {name}"));
                return Err(
                    failure.remedy("wait for it to end, or give each run (each shard) its own log")
                );
            }
            Err(error) => {
                return Err(Failure::resource(format!(
                    "cannot lock the job log {name}: {error}"
                )));
            }
        }
        let metadata = file.metadata().map_err(unreadable)?;
        if !metadata.is_file() {
            // A file that cannot be read again is only written to.
            return match existing_log {
                ExistingLog::Refuse => Ok((
                    Self {
                        file,
                        path: path.into(),
                        length: 0,
                        failed: false,
                    },
                    None,
                )),
                _ => Err(Failure::usage(format!(
                    "the job log {name} is not a regular file, so a run cannot be resumed from it"
                ))),
            };
        }
        let mut log = Self {
            file,
            path: path.into(),
            length: metadata.len(),
            failed: false,
        };
        if existing_log == ExistingLog::Refuse {
            return match log.length {
                0 => Ok((log, None)),
                _ => Err(Failure::usage(format!(
                    "the job log {name} has the records of an earlier run"
                ))
                .remedy("use --resume to continue it, or remove it to start again")),
            };
        }
        let complete = log.complete_length().map_err(unreadable)?;
        // The file is not changed before all of it is known to be a job log: the path may be wrong.
        let resume = Resume::read(path, complete, existing_log == ExistingLog::ResumeFailed)?;
        log.repair(complete)?;
        Ok((log, Some(resume)))
    }

    /// Reads what an earlier run left in a log, and changes nothing.
    pub(crate) fn read(path: &Path, retry_failed: bool) -> Result<Option<Resume>, Failure> {
        let unreadable = |error: io::Error| {
            Failure::usage(format!(
                "cannot open the job log {}: {error}",
                path.display()
            ))
        };
        check_kind(path)?;
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(unreadable)?,
        };
        let length = file.metadata().map_err(unreadable)?.len();
        let log = Self {
            file,
            path: path.into(),
            length,
            failed: false,
        };
        let complete = log.complete_length().map_err(unreadable)?;
        Resume::read(path, complete, retry_failed).map(Some)
    }

    /// The length of the complete records of a log, which is not changed. An incomplete last line
    /// that is not the start of a record is an error.
    pub(crate) fn records_length(path: &Path) -> Result<u64, Failure> {
        let name = path.display();
        let unreadable = |error: io::Error| {
            Failure::usage(format!("cannot read the job log {name}: {error}"))
                .remedy("give a log that `exitring run --joblog` wrote; an empty one is /dev/null")
        };
        // A FIFO would look like an empty log.
        check_kind(path)?;
        let file = File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        if metadata.is_dir() {
            return Err(unreadable(io::ErrorKind::IsADirectory.into()));
        }
        let log = Self {
            file,
            path: path.into(),
            length: metadata.len(),
            failed: false,
        };
        let complete = log.complete_length().map_err(unreadable)?;
        log.check_incomplete(complete)?;
        Ok(complete)
    }

    /// The length up to the end of the last complete line.
    fn complete_length(&self) -> io::Result<u64> {
        let mut reader = BufReader::new(File::open(&self.path)?);
        let mut complete = self.length;
        // Searches backwards for the last line end.
        const STEP: u64 = 64 * 1024;
        while complete > 0 {
            let start = complete.saturating_sub(STEP);
            reader.seek(SeekFrom::Start(start))?;
            let mut tail = vec![0; (complete - start) as usize];
            io::Read::read_exact(&mut reader, &mut tail)?;
            if let Some(end) = tail.iter().rposition(|&byte| byte == b'\n') {
                complete = start + end as u64 + 1;
                break;
            }
            complete = start;
        }
        Ok(complete)
    }

    /// Removes a last line that was incomplete when the machine or the run ended, and nothing else.
    fn repair(&mut self, complete: u64) -> Result<(), Failure> {
        if complete == self.length {
            return Ok(());
        }
        self.check_incomplete(complete)?;
        let name = self.path.display();
        let unreadable =
            |error| Failure::usage(format!("cannot repair the job log {name}: {error}"));
        self.file.set_len(complete).map_err(unreadable)?;
        self.length = complete;
        Ok(())
    }

    /// Checks that an incomplete last line is the start of a record.
    fn check_incomplete(&self, complete: u64) -> Result<(), Failure> {
        let name = self.path.display();
        let unreadable = |error| Failure::usage(format!("cannot read the job log {name}: {error}"));
        let mut begun = vec![0; RECORD_BEGINS.len().min((self.length - complete) as usize)];
        FileExt::read_exact_at(&self.file, &mut begun, complete).map_err(unreadable)?;
        if !RECORD_BEGINS.starts_with(&begun) {
            let cause = format!(
                "the last line of the job log {name} is incomplete, and is not the start of a record"
            );
            return Err(Failure::usage(cause).remedy(format!(
                "if this is a job log, remove the line with truncate -s {complete}"
            )));
        }
        Ok(())
    }

    /// The record of a finished job, as a line.
    pub(crate) fn line(job: &Job, record: &Record<'_>) -> Vec<u8> {
        Self::hashed_line(record, format!("{:016x}", job.command.hash()))
    }

    /// The same for a job of which only the hash of the command is known.
    pub(crate) fn hashed_line(record: &Record<'_>, hash: String) -> Vec<u8> {
        to_json_line(&LogEntry { record, hash })
    }

    /// Appends whole lines. An error is returned once, and nothing is written after it.
    pub(crate) fn append(&mut self, lines: &[u8]) -> Result<(), Failure> {
        if self.failed {
            return Ok(());
        }
        // One write(2), unless only a part of the lines fits. The next write then returns the
        // reason.
        let Err(error) = self.file.write_all(lines) else {
            self.length += lines.len() as u64;
            return Ok(());
        };
        self.failed = true;
        // Keep the whole lines that were written. This process alone appends to the file.
        let length = self.file.metadata().map_or(self.length, |it| it.len());
        let written = length.saturating_sub(self.length) as usize;
        let written = &lines[..written.min(lines.len())];
        self.length += written
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |end| end as u64 + 1);
        let _ = self.file.set_len(self.length);
        Err(Failure::writing(
            &format!("the job log {}", self.path.display()),
            &error,
        ))
    }
}

fn check_kind(path: &Path) -> Result<(), Failure> {
    match file_kind::may_block(path) {
        true => Err(not_regular(path)),
        false => Ok(()),
    }
}

fn not_regular(path: &Path) -> Failure {
    let cause = format!("the job log {} is not a regular file", path.display());
    Failure::usage(cause).remedy("give a regular file, or /dev/null")
}

#[derive(Serialize)]
struct LogEntry<'a> {
    #[serde(flatten)]
    record: &'a Record<'a>,
    /// The hash of the command, which detects a list that changed.
    hash: String,
}
