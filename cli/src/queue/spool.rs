//! The messages of a list, in an unlinked file: the list is known as a whole before the first job is
//! submitted, and may be larger than the memory.

use std::fs::File;
use std::hash::Hasher;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};

use twox_hash::XxHash3_64;

use super::error::QueueError;
use super::model::job_message::JobMessage;
use crate::failure::Failure;
use crate::run::input::source::Source;

/// A list as messages.
pub(super) struct Spool {
    file: File,
    pub(super) jobs: u64,
    /// The hash of all messages, in hexadecimal digits.
    pub(super) hash: String,
}

impl Spool {
    /// Reads a list to its end. No message may have more than `limit` bytes.
    pub(super) fn read(source: &mut Source, limit: usize) -> Result<Self, Failure> {
        let failed = |error: io::Error| {
            let dir = std::env::temp_dir();
            Failure::writing(
                &format!("the list to a temporary file in {}", dir.display()),
                &error,
            )
        };
        let mut file = BufWriter::new(tempfile::tempfile().map_err(failed)?);
        let mut hash = XxHash3_64::new();
        let mut jobs = 0;
        while let Some(item) = source.next()? {
            let job = item.number;
            let message = JobMessage::of(item).map_err(|why| QueueError::InvalidJob {
                job,
                why: why.into(),
            })?;
            // Jobs consist of strings and numbers, which JSON can represent.
            let message = serde_json::to_vec(&message).unwrap_or_default();
            let size = message.len();
            if size > limit {
                return Err(QueueError::TooLarge { job, size, limit }.into());
            }
            let length = (size as u64).to_le_bytes();
            for part in [&length[..], &message] {
                hash.write(part);
                file.write_all(part).map_err(failed)?;
            }
            jobs = job;
        }
        if jobs == 0 {
            return Err(QueueError::NoJobs.into());
        }
        let file = file
            .into_inner()
            .map_err(|error| failed(error.into_error()))?;
        let hash = format!("{:016x}", hash.finish());
        Ok(Self { file, jobs, hash })
    }

    /// The messages of the jobs after the first `skipped` ones.
    pub(super) fn messages(&self, skipped: u64) -> Result<Messages, QueueError> {
        let mut file = self.file.try_clone().map_err(unreadable)?;
        file.seek(SeekFrom::Start(0)).map_err(unreadable)?;
        let mut messages = Messages {
            reader: BufReader::with_capacity(256 * 1024, file),
            left: self.jobs,
        };
        for _ in 0..skipped {
            let length = messages.length()?;
            let length = i64::try_from(length).unwrap_or(i64::MAX);
            messages.reader.seek_relative(length).map_err(unreadable)?;
            messages.left -= 1;
        }
        Ok(messages)
    }
}

fn unreadable(error: io::Error) -> QueueError {
    QueueError::System {
        what: "read the list from a temporary file",
        error,
    }
}

/// Reads messages.
pub(super) struct Messages {
    reader: BufReader<File>,
    left: u64,
}

impl Messages {
    fn length(&mut self) -> Result<u64, QueueError> {
        let mut length = [0; 8];
        self.reader.read_exact(&mut length).map_err(unreadable)?;
        Ok(u64::from_le_bytes(length))
    }

    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>, QueueError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let length = self.length()?;
        let mut message = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        self.reader.read_exact(&mut message).map_err(unreadable)?;
        Ok(Some(message))
    }
}
