//! `exitring results --logs`: the whole logs of accepted records, as files.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::connection::{Connection, SERVER_TIMEOUT, with_retries};
use super::error::QueueError;
use super::model::log_field::LogField;
use crate::failure::Failure;

/// The directory with the logs: `JOB.out` and `JOB.err`, as of `run --log`.
pub(super) struct Download<'a> {
    connection: &'a Connection,
    dir: PathBuf,
    /// Jobs whose record has no log.
    pub(super) missing: u64,
    /// Why the first of these has none.
    pub(super) reason: Option<String>,
}

impl<'a> Download<'a> {
    pub(super) fn new(connection: &'a Connection, dir: &Path) -> Result<Self, Failure> {
        fs::create_dir_all(dir).map_err(|error| {
            let name = dir.display();
            Failure::usage(format!("cannot use the directory {name} for logs: {error}"))
        })?;
        Ok(Self {
            connection,
            dir: dir.into(),
            missing: 0,
            reason: None,
        })
    }

    /// Stores the log of a job. `None`: its worker has uploaded none.
    pub(super) async fn fetch(&mut self, job: u64, log: Option<LogField>) -> Result<(), Failure> {
        let log = log.unwrap_or_else(|| LogField {
            missing: Some("its worker did not have --log nats".into()),
            ..LogField::default()
        });
        let Some(name) = log.name.filter(|_| log.missing.is_none()) else {
            self.missing += 1;
            self.reason = self.reason.take().or(log.missing);
            return Ok(());
        };
        for (ending, size) in [("out", log.stdout_bytes), ("err", log.stderr_bytes)] {
            if size > 0 {
                let path = self.dir.join(format!("{job}.{ending}"));
                self.write(&path, &format!("{name}.{ending}"), size).await?;
            }
        }
        Ok(())
    }

    async fn write(&self, path: &Path, name: &str, size: u64) -> Result<(), Failure> {
        let failed = |error: io::Error| Failure::writing(&path.display().to_string(), &error);
        let connection = self.connection;
        let object = async || connection.object(name).await;
        let object = with_retries(SERVER_TIMEOUT, QueueError::is_passing, object).await?;
        // A file with the name of the log is whole.
        let mut part = path.to_owned().into_os_string();
        part.push(".part");
        let part = PathBuf::from(part);
        let mut file = File::create(&part).map_err(failed)?;
        let (mut sequence, mut left) = (0, size);
        while left > 0 {
            let chunk = async || connection.chunk(&object, sequence).await;
            let chunk = with_retries(SERVER_TIMEOUT, QueueError::is_passing, chunk).await?;
            let length = chunk.as_ref().map_or(0, |(_, bytes)| bytes.len() as u64);
            match chunk {
                Some((stored, bytes)) if (1..=left).contains(&length) => {
                    file.write_all(&bytes).map_err(failed)?;
                    (sequence, left) = (stored, left - length);
                }
                _ => {
                    let reason = format!("{left} bytes are missing");
                    let name = name.into();
                    return Err(QueueError::NoLog { name, reason }.into());
                }
            }
        }
        fs::rename(part, path).map_err(failed)
    }
}
