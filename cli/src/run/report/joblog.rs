//! The job log: a record for each finished job, so that a run that was cut off can be gone on with.
//!
//! JSON lines, the very records of `--output jsonl`: any tool reads them, and no command needs rules for its tabs and
//! line ends. Each is written by one `write(2)`, so whatever kills us, all but the last line are whole, and that one is
//! mended by the next run.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::Serialize;

use crate::failure::Failure;
use crate::run::job::Job;
use crate::run::report::record::{Record, to_line};
use crate::run::report::resume::Resume;

/// So does every line that we write.
const RECORD_BEGINS: &[u8] = br#"{"type":"job","job":"#;

pub(crate) struct JobLog {
    file: File,
    path: PathBuf,
    /// Of whole records.
    length: u64,
}

/// What to do about the records of a former run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Former {
    /// There must be none.
    Refuse,
    /// Do not run again what is done.
    Keep,
    /// Nor what is done well; what failed is run again.
    KeepSuccesses,
}

impl JobLog {
    /// Opens it, for this run alone, and reads what a former one left.
    pub(crate) fn open(path: &Path, former: Former) -> Result<(Self, Option<Resume>), Failure> {
        let name = path.display().to_string();
        let unreadable =
            |error: io::Error| Failure::usage(format!("cannot open the job log {name}: {error}"));
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path)
            .map_err(unreadable)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let failure = Failure::usage(format!("another run writes the job log {name}"));
                return Err(failure
                    .remedy("wait for it to end, or give each run (each shard) a log of its own"));
            }
            Err(error) => {
                return Err(Failure::resource(format!(
                    "cannot lock the job log {name}: {error}"
                )));
            }
        }
        let metadata = file.metadata().map_err(unreadable)?;
        if !metadata.is_file() {
            // What cannot be read again is written to, and nothing else.
            return match former {
                Former::Refuse => Ok((
                    Self {
                        file,
                        path: path.into(),
                        length: 0,
                    },
                    None,
                )),
                _ => Err(Failure::usage(format!(
                    "the job log {name} is no regular file, so nothing can be resumed from it"
                ))),
            };
        }
        let mut log = Self {
            file,
            path: path.into(),
            length: metadata.len(),
        };
        if former == Former::Refuse {
            return match log.length {
                0 => Ok((log, None)),
                _ => Err(Failure::usage(format!(
                    "the job log {name} has the records of a former run"
                ))
                .remedy("--resume goes on with it; to begin anew, remove it")),
            };
        }
        let whole = log.whole_length().map_err(unreadable)?;
        // Nothing is changed before all of it is known to be a job log: it may be the wrong file.
        let resume = Resume::read(path, whole, former == Former::KeepSuccesses)?;
        log.mend(whole)?;
        Ok((log, Some(resume)))
    }

    /// Up to the end of the last whole line.
    fn whole_length(&self) -> io::Result<u64> {
        let mut reader = BufReader::new(File::open(&self.path)?);
        let mut whole = self.length;
        // Backwards from the end, to the last end of a line.
        const STEP: u64 = 64 * 1024;
        while whole > 0 {
            let start = whole.saturating_sub(STEP);
            reader.seek(SeekFrom::Start(start))?;
            let mut tail = vec![0; (whole - start) as usize];
            io::Read::read_exact(&mut reader, &mut tail)?;
            if let Some(end) = tail.iter().rposition(|&byte| byte == b'\n') {
                whole = start + end as u64 + 1;
                break;
            }
            whole = start;
        }
        Ok(whole)
    }

    /// Takes off a last line that was being written when the machine or the run ended, and nothing else.
    fn mend(&mut self, whole: u64) -> Result<(), Failure> {
        if whole == self.length {
            return Ok(());
        }
        let name = self.path.display();
        let unreadable = |error| Failure::usage(format!("cannot mend the job log {name}: {error}"));
        let mut begun = vec![0; RECORD_BEGINS.len().min((self.length - whole) as usize)];
        FileExt::read_exact_at(&self.file, &mut begun, whole).map_err(unreadable)?;
        if !RECORD_BEGINS.starts_with(&begun) {
            let cause = format!(
                "the last line of the job log {name} has no end, and is no beginning of a record"
            );
            return Err(Failure::usage(cause).remedy(format!(
                "if it is a job log: truncate -s {whole} takes that line off"
            )));
        }
        self.file.set_len(whole).map_err(unreadable)?;
        self.length = whole;
        Ok(())
    }

    /// Adds a finished job.
    pub(crate) fn write(&mut self, job: &Job, record: &Record<'_>) -> Result<(), Failure> {
        let hash = format!("{:016x}", job.order.hash());
        let line = to_line(&Logged { record, hash });
        // One write(2), unless only a part of it has room: why the rest has none, the next one says.
        let Err(error) = self.file.write_all(&line) else {
            self.length += line.len() as u64;
            return Ok(());
        };
        // What there is of the line, off again.
        let _ = self.file.set_len(self.length);
        Err(Failure::writing(
            &format!("the job log {}", self.path.display()),
            &error,
        ))
    }
}

#[derive(Serialize)]
struct Logged<'a> {
    #[serde(flatten)]
    record: &'a Record<'a>,
    /// Of the command, to notice when the list is another one.
    hash: String,
}

/// Lines of a file up to a position, each without its end.
pub(crate) struct Lines {
    reader: io::Take<BufReader<File>>,
    line: Vec<u8>,
}

impl Lines {
    pub(crate) fn open(path: &Path, length: u64) -> io::Result<Self> {
        let reader = io::Read::take(BufReader::new(File::open(path)?), length);
        Ok(Self {
            reader,
            line: Vec::new(),
        })
    }

    pub(crate) fn next(&mut self) -> io::Result<Option<&[u8]>> {
        self.line.clear();
        match self.reader.read_until(b'\n', &mut self.line)? {
            0 => Ok(None),
            _ => Ok(Some(self.line.trim_ascii_end())),
        }
    }
}
