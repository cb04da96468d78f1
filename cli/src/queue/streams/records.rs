//! A reader of the stream of records, from its beginning.
//!
//! Nothing is removed from the stream, so a message that the connection has lost shows as a gap, and is
//! read again. If the stream has nothing in the gap, the server has lost messages.

use std::cmp::Ordering;
use std::time::{Duration, Instant};

use async_nats::{StatusCode, Subscriber, jetstream};
use bytes::Bytes;
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::{ANSWER_TIMEOUT, Connection, QueueError};

/// How many records are requested at a time. The server ends a connection with more than 64 MiB to be
/// sent, and a record has 768 KiB if JSON writes each byte of its output as six.
const BATCH: usize = 64;
/// How long a request waits for records.
const EXPIRES: Duration = Duration::from_secs(1);
/// The pause before another consumer is made.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// How often a request without an answer is repeated.
const TRIES: u32 = 12;

/// The reader.
pub(in crate::queue) struct Records<'a> {
    connection: &'a Connection,
    /// The id of the run.
    id: &'a str,
    stream: String,
    /// The last sequence that was read.
    position: u64,
    /// The name of its consumer, which the server removes when it is not used.
    consumer: Option<String>,
    /// The request that is under way, and how many records it may still get.
    request: Option<(Subscriber, usize)>,
    /// Messages that are not in the stream any more.
    missing: u64,
    failures: u32,
    last_record: Instant,
}

#[derive(Deserialize)]
struct Created {
    name: String,
}

impl<'a> Records<'a> {
    pub(in crate::queue) fn new(connection: &'a Connection, id: &'a str) -> Self {
        Self {
            connection,
            id,
            stream: connection.names().records,
            position: 0,
            consumer: None,
            request: None,
            missing: 0,
            failures: 0,
            last_record: Instant::now(),
        }
    }

    /// The last sequence that was read.
    pub(in crate::queue) fn position(&self) -> u64 {
        self.position
    }

    /// How many records the stream has lost.
    pub(in crate::queue) fn missing(&self) -> u64 {
        self.missing
    }

    /// For how long there was no record.
    pub(in crate::queue) fn idle_seconds(&self) -> u64 {
        self.last_record.elapsed().as_secs()
    }

    /// The next records. None: there are no more at the moment.
    pub(in crate::queue) async fn next(&mut self) -> Result<Vec<Bytes>, QueueError> {
        loop {
            match self.read().await {
                Ok(records) => {
                    self.failures = 0;
                    if !records.is_empty() {
                        self.last_record = Instant::now();
                    }
                    return Ok(records);
                }
                // The server is away, or starts.
                Err(error) if error.is_passing() && self.failures < TRIES => {
                    self.failures += 1;
                    self.consumer = None;
                    sleep(Duration::from_millis(500)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn read(&mut self) -> Result<Vec<Bytes>, QueueError> {
        let (mut messages, mut left) = match self.request.take() {
            Some(request) => request,
            None => (self.request().await?, BATCH),
        };
        let mut records = Vec::new();
        while left > 0 {
            let wait = match records.is_empty() {
                true => EXPIRES + ANSWER_TIMEOUT,
                // What has come is passed on, and the request goes on.
                false => Duration::ZERO,
            };
            let message = match timeout(wait, messages.next()).await {
                Ok(Some(message)) => message,
                Err(_) if !records.is_empty() => {
                    self.request = Some((messages, left));
                    break;
                }
                Ok(None) | Err(_) => {
                    self.consumer = None;
                    return match records.is_empty() {
                        true => Err(QueueError::NoAnswer {
                            what: "read the records",
                        }),
                        false => Ok(records),
                    };
                }
            };
            match message.status {
                None | Some(StatusCode::OK) => {}
                Some(StatusCode::NOT_FOUND | StatusCode::TIMEOUT) => break,
                Some(_) => {
                    self.consumer = None;
                    // Deleted, or a server that shuts down: the next request finds out.
                    sleep(RETRY_PAUSE).await;
                    break;
                }
            }
            let context = self.connection.context.clone();
            let message = jetstream::Message { message, context };
            let sequence = message.info().map_or(0, |info| info.stream_sequence);
            let expected = self.position.saturating_add(1);
            let follows = match sequence.cmp(&expected) {
                Ordering::Less => false,
                Ordering::Equal => true,
                Ordering::Greater => match self.has_nothing_between(expected, sequence).await {
                    Ok(nothing) => nothing,
                    Err(error) if records.is_empty() => return Err(error),
                    Err(_) => false,
                },
            };
            if !follows {
                // Messages were lost with the connection.
                self.consumer = None;
                sleep(RETRY_PAUSE).await;
                break;
            }
            self.missing = self.missing.saturating_add(sequence - expected);
            self.position = sequence;
            left -= 1;
            records.push(message.message.payload);
        }
        Ok(records)
    }

    /// Whether the stream has no record from a sequence on and before another one.
    async fn has_nothing_between(&self, from: u64, before: u64) -> Result<bool, QueueError> {
        let subjects = self.connection.names().record_subjects(self.id);
        let next = self
            .connection
            .next_message(&self.stream, from, &subjects)
            .await?;
        Ok(next.is_none_or(|next| next.sequence >= before))
    }

    /// Requests records.
    async fn request(&mut self) -> Result<Subscriber, QueueError> {
        let consumer = match &self.consumer {
            Some(consumer) => consumer.clone(),
            None => self.create().await?,
        };
        let client = &self.connection.client;
        let refused = |error: &dyn std::error::Error| QueueError::Refused {
            what: "read the records",
            reason: crate::failure::chain(error),
        };
        let inbox = client.new_inbox();
        let subscribed = client.subscribe(inbox.clone()).await;
        let messages = subscribed.map_err(|error| refused(&error))?;
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{consumer}", self.stream);
        let request = json!({ "batch": BATCH, "expires": EXPIRES.as_nanos() as u64 });
        let sent = client.publish_with_reply(subject, inbox, request.to_string().into());
        sent.await.map_err(|error| refused(&error))?;
        self.consumer = Some(consumer);
        Ok(messages)
    }

    async fn create(&self) -> Result<String, QueueError> {
        // The position belongs to one run.
        self.connection.records_state(self.id).await?;
        let request = json!({
            "stream_name": self.stream,
            "config": {
                // The server refuses it if the stream has become that of another run meanwhile.
                "filter_subject": self.connection.names().record_subjects(self.id),
                "deliver_policy": "by_start_sequence",
                "opt_start_seq": self.position.saturating_add(1),
                "ack_policy": "none",
                "replay_policy": "instant",
                "mem_storage": true,
                "inactive_threshold": Duration::from_secs(60).as_nanos() as u64,
            },
        });
        let subject = format!("CONSUMER.CREATE.{}", self.stream);
        let what = "read the records";
        let created: Created = self
            .connection
            .api_ok(what, &subject, request.to_string().into())
            .await?;
        Ok(created.name)
    }
}
