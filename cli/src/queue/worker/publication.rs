//! The publication of one result.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use async_nats::Subject;
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::buffer::{Buffer, Waiting};
use super::log_upload::Logs;
use crate::queue::connection::{Connection, server_error};
use crate::queue::error::QueueError;
use crate::queue::model::log_field::LogField;
use crate::queue::model::record_message::{record_limit, shorten};
use crate::queue::streams::Names;

/// How many results are sent at a time. Each may have 768 KiB.
pub(super) const SENDING_MAX: usize = 256;
/// The pause after the server has refused a result.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);

/// What all publications share.
pub(super) struct Shared {
    pub(super) connection: Connection,
    pub(super) names: Names,
    /// The id of the run.
    pub(super) id: String,
    pub(super) buffer: RefCell<Buffer>,
    /// How many results may be read from the buffer and on their way to the server.
    pub(super) sending: Semaphore,
    /// Why the server refuses results.
    pub(super) refusal: RefCell<Option<String>>,
    /// With `--log nats`.
    pub(super) logs: Option<Logs>,
    /// The last log that could not be stored.
    pub(super) missing_log: RefCell<Option<QueueError>>,
    /// No more jobs run on this worker.
    pub(super) closing: Cell<bool>,
}

impl Shared {
    /// Waits until there is a connection.
    pub(super) async fn connected(&self) {
        let mut link = self.connection.link.clone();
        // The sender lives as long as the client.
        let _ = link.wait_for(|link| link.up).await;
    }
}

/// How a publication ended.
pub(super) enum Stored {
    /// The result is stored. The job will not be delivered again, or is found to be done.
    Stored,
    /// The run was deleted.
    Deleted,
}

/// The result of a job.
pub(super) struct JobResult {
    pub(super) number: u64,
    /// The identifier of the message.
    pub(super) id: String,
    /// The name of the log.
    pub(super) log: String,
    pub(super) waiting: Waiting,
}

/// Stores a result, after its log. The job is acknowledged when the server has confirmed that. It
/// repeats that until it succeeds: the server drops a message whose identifier it knows, and readers
/// of results drop it otherwise.
pub(super) async fn publish(shared: Rc<Shared>, result: JobResult) -> (u64, Stored) {
    let log = match &shared.logs {
        Some(logs) => Some(logs.store(&shared, result.number, result.log).await),
        None => None,
    };
    if let Some(reason) = log.as_ref().and_then(|log| log.missing.clone()) {
        let job = result.number;
        let error = QueueError::LogNotStored { job, reason };
        shared.missing_log.replace(Some(error));
    }
    let (number, waiting) = (result.number, result.waiting);
    let stored = store(&shared, number, result.id, &waiting, log.as_ref()).await;
    shared.buffer.borrow_mut().remove(&waiting);
    (number, stored)
}

async fn store(
    shared: &Shared,
    number: u64,
    id: String,
    waiting: &Waiting,
    log: Option<&LogField>,
) -> Stored {
    loop {
        shared.connected().await;
        // The semaphore is never closed.
        let permit = shared.sending.acquire().await;
        let payload = shared.buffer.borrow().get(waiting);
        let payload = match (payload, log) {
            (Some(payload), Some(log)) => Some(log.add_to(payload.into()).into()),
            (payload, _) => payload,
        };
        let Some(payload) = payload else {
            // The temporary file cannot be read. The lease ends, and the job runs again.
            return Stored::Deleted;
        };
        // The limit may have been lowered since the record was written.
        let limit = record_limit(shared.connection.client.max_payload());
        let payload = match payload.len() > limit {
            true => shorten(payload.into(), limit).into(),
            false => payload,
        };
        let message = PublishMessage::build().payload(payload).message_id(&id);
        let subject = shared.names.record_subject(&shared.id, number);
        let mut link = shared.connection.link.clone();
        let connections = link.borrow().connections;
        let published = async {
            let sent = shared.connection.context.send_publish(subject, message);
            sent.await?.await
        };
        let published = tokio::select! {
            biased;
            published = published => published,
            // No confirmation comes on a new connection, and the job may be delivered again there.
            Ok(_) = link.wait_for(|link| link.up && link.connections != connections) => continue,
        };
        drop(permit);
        let Err(error) = published else {
            shared.refusal.replace(None);
            return Stored::Stored;
        };
        match (error.kind(), server_error(&error)) {
            (PublishErrorKind::StreamNotFound, _) if shared.connection.link.borrow().up => {
                // The server has no stream for the subject, or it is just starting.
                let stream = shared.connection.records_state(&shared.id);
                if stream.await.is_err_and(|error| error.is_deleted()) {
                    return Stored::Deleted;
                }
                sleep(REFUSED_PAUSE).await;
            }
            (_, Some(error)) => {
                shared.refusal.replace(Some(error.to_string()));
                sleep(REFUSED_PAUSE).await;
            }
            // The smallest record does not fit either.
            (PublishErrorKind::MaxPayloadExceeded, _) => {
                let reason = "max_payload is too small for any result";
                shared.refusal.replace(Some(reason.into()));
                sleep(REFUSED_PAUSE).await;
            }
            // No confirmation came.
            _ => sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Acknowledges a job. No confirmation is awaited: if this is lost, the job is delivered again when
/// its lease is over, and its record is found.
pub(super) async fn acknowledge(shared: &Shared, reply: Subject) {
    shared.connected().await;
    let _ = shared.connection.client.publish(reply, "+ACK".into()).await;
}
