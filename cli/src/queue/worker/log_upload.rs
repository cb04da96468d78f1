//! The upload of a job's whole log (`--log nats`).
//!
//! Jobs write to files in a temporary directory, as with `--log DIR`. When a job has ended its files
//! are stored as objects of the run's bucket, and then its record, which says where they are. So the
//! log of a job with a record is there, or the record says why it is not. While the server is away the
//! files wait beside the results.
//!
//! The name of an object contains the execution. So a worker that has lost its lease does not replace
//! the log of the accepted record.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::publication::Shared;
use crate::queue::connection::{is_unavailable, server_error};
use crate::queue::model::log_field::LogField;
use crate::queue::model::object_info::ObjectInfo;
use crate::queue::model::run_spec::random_id;
use crate::queue::model::text::one_line;

/// The most bytes of a message.
const CHUNK_MAX: usize = 128 * 1024;
/// What a message has beside a chunk.
const AROUND_CHUNK: usize = 1024;
/// How many logs are uploaded at a time. Each has a chunk in memory.
const AT_ONCE: usize = 4;
/// The pause before the server is asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// The logs of this worker.
pub(super) struct Logs {
    dir: PathBuf,
    permits: Semaphore,
}

impl Logs {
    /// Jobs write to files in this directory.
    pub(super) fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            permits: Semaphore::new(AT_ONCE),
        }
    }

    /// Stores the log of a job under a name, or finds out that it cannot be stored. Its files are
    /// removed.
    pub(super) async fn store(&self, shared: &Shared, job: u64, name: String) -> LogField {
        // The semaphore is never closed.
        let _permit = self.permits.acquire().await;
        let mut sizes = [0; 2];
        let mut missing = None;
        for (size, ending) in sizes.iter_mut().zip(["out", "err"]) {
            let path = self.dir.join(format!("{job}.{ending}"));
            if missing.is_none() {
                match upload(shared, &path, &format!("{name}.{ending}")).await {
                    Ok(stored) => *size = stored,
                    Err(reason) => missing = Some(one_line(&reason)),
                }
            }
            // There is none, or the directory is removed at the end.
            let _ = fs::remove_file(path);
        }
        match missing {
            None => LogField {
                name: Some(name),
                stdout_bytes: sizes[0],
                stderr_bytes: sizes[1],
                missing: None,
            },
            Some(reason) => LogField {
                missing: Some(reason),
                ..LogField::default()
            },
        }
    }
}

/// Why a file was not stored.
enum Stopped {
    /// The server is away, or has not confirmed it.
    Retry,
    /// The server refuses it, or the file cannot be read.
    Refused(String),
}

impl From<io::Error> for Stopped {
    fn from(error: io::Error) -> Self {
        Self::Refused(format!("cannot read it: {error}"))
    }
}

/// Stores one file. Returns its size, or why it cannot be stored.
async fn upload(shared: &Shared, path: &Path, name: &str) -> Result<u64, String> {
    // The job may have put a FIFO there, whose opening would block.
    if !fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file()) {
        return Ok(0);
    }
    let connection = &shared.connection;
    loop {
        shared.connected().await;
        let nuid = random_id();
        let mut link = connection.link.clone();
        let connections = link.borrow().connections;
        let stored = tokio::select! {
            biased;
            stored = put(shared, path, name, &nuid) => stored,
            // No confirmation comes on a new connection.
            Ok(_) = link.wait_for(|link| link.up && link.connections != connections) => {
                Err(Stopped::Retry)
            }
        };
        let stopped = match stored {
            Ok(size) => return Ok(size),
            Err(stopped) => stopped,
        };
        // A full bucket would leave no room for the record.
        while let Err(error) = connection.remove_chunks(&nuid).await {
            if !error.is_passing() {
                break;
            }
            sleep(PAUSE).await;
        }
        match stopped {
            Stopped::Retry => sleep(PAUSE).await,
            Stopped::Refused(reason) => return Err(reason),
        }
    }
}

/// Stores one file as an object.
async fn put(shared: &Shared, path: &Path, name: &str, nuid: &str) -> Result<u64, Stopped> {
    let file = match File::open(path) {
        // The supervisor has just removed an empty file.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        file => file?,
    };
    let size = file.metadata()?.len();
    if size == 0 {
        return Ok(0);
    }
    // Another process may still write to the file.
    let mut file = file.take(size);
    let bucket = &shared.names.bucket;
    let room = shared.connection.client.max_payload();
    let room = room.saturating_sub(AROUND_CHUNK).max(room / 2);
    let mut hash = Sha256::new();
    let (mut stored, mut chunks) = (0, 0);
    loop {
        // A read from a local disk does not block for long.
        let mut chunk = Vec::new();
        let length = CHUNK_MAX.min(room) as u64;
        if (&mut file).take(length).read_to_end(&mut chunk)? == 0 {
            break;
        }
        hash.update(&chunk);
        stored += chunk.len() as u64;
        chunks += 1;
        let chunk = PublishMessage::build().payload(chunk.into());
        publish(shared, ObjectInfo::chunk_subject(bucket, nuid), chunk).await?;
    }
    let info = ObjectInfo {
        name: name.into(),
        bucket: bucket.clone(),
        nuid: nuid.into(),
        size: stored,
        chunks,
        digest: ObjectInfo::digest(&hash.finalize()),
        mtime: jiff::Timestamp::now().to_string(),
    };
    // It consists of strings and numbers, which JSON can represent.
    let info = serde_json::to_vec(&info).unwrap_or_default();
    let info = PublishMessage::build()
        .payload(info.into())
        .header("Nats-Rollup", "sub");
    publish(shared, ObjectInfo::subject(bucket, name), info).await?;
    Ok(stored)
}

async fn publish(shared: &Shared, subject: String, message: PublishMessage) -> Result<(), Stopped> {
    let connection = &shared.connection;
    let published = async {
        let sent = connection.context.send_publish(subject, message);
        sent.await?.await
    };
    let Err(error) = published.await else {
        return Ok(());
    };
    Err(match (error.kind(), server_error(&error)) {
        (_, Some(error)) if is_unavailable(error) => Stopped::Retry,
        (_, Some(error)) => Stopped::Refused(error.to_string()),
        // The server is just starting, or the bucket was deleted.
        (PublishErrorKind::StreamNotFound, _) => match connection.bucket_is_there().await {
            Err(error) if error.is_deleted() => Stopped::Refused("there is no bucket".into()),
            _ => Stopped::Retry,
        },
        (PublishErrorKind::MaxPayloadExceeded, _) => Stopped::Refused(error.to_string()),
        _ => Stopped::Retry,
    })
}
