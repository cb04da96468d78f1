//! The streams of a run, and the consumer of its jobs.
//!
//! A run has these streams, all with limits retention: nothing is removed before the run is deleted.
//! (Work queue retention has lost messages: nats-server issues 5638 and 7817.)
//!
//! | stream | subjects | messages |
//! |---|---|---|
//! | `exitring-RUN-state` | `exitring.RUN.state.>` | the last one of each subject: the [`RunSpec`], cancellation, heartbeats, how often a job was given back |
//! | `exitring-RUN-jobs` | `exitring.RUN.jobs.ID` | job N is message N |
//! | `exitring-RUN-records` | `exitring.RUN.record.ID.*` | the results, a subject for each job: the number of subjects is the number of jobs with a result |
//! | `OBJ_exitring-RUN` | `$O.exitring-RUN.>` | the logs, in an object store, once a worker has `--log nats` |
//!
//! ID is the id of the [`RunSpec`]. It is also part of the name of the consumer, so what a worker
//! sends for a deleted run (results, acknowledgements, requests for jobs) has no receiver.
//!
//! [`names`] has the names, [`consumer`] the consumer, [`bucket`] the object store, and [`records`] reads the stream of records.

mod bucket;
mod consumer;
mod names;
pub(super) mod records;

use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::stream::{self, DiscardPolicy, RetentionPolicy, StorageType};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

pub(super) use self::names::Names;
use super::connection::{ANSWER_TIMEOUT, Connection};
use super::error::QueueError;
use super::model::run_spec::RunSpec;

/// What a stream has.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct StreamState {
    pub(super) messages: u64,
    #[serde(rename = "last_seq")]
    pub(super) last_sequence: u64,
    #[serde(default, rename = "num_subjects")]
    pub(super) subjects: u64,
}

#[derive(Deserialize)]
struct StreamInfo {
    config: StreamConfig,
    state: StreamState,
}

#[derive(Deserialize)]
struct StreamConfig {
    #[serde(default)]
    subjects: Vec<String>,
    #[serde(default)]
    num_replicas: u8,
}

/// A message of a stream.
pub(super) struct Stored {
    pub(super) sequence: u64,
    pub(super) payload: Vec<u8>,
    /// By the clock of the server.
    pub(super) time: jiff::Timestamp,
}

#[derive(Deserialize)]
struct MessageAnswer {
    message: RawMessage,
}

#[derive(Deserialize)]
struct RawMessage {
    #[serde(rename = "seq")]
    sequence: u64,
    #[serde(default)]
    data: String,
    time: String,
}

impl Connection {
    pub(super) fn names(&self) -> Names {
        Names::of(&self.run)
    }

    /// Creates the stream of the state, unless it exists.
    pub(super) async fn create_state(&self, replicas: u8) -> Result<(), QueueError> {
        let names = self.names();
        let config = stream::Config {
            subjects: vec![names.state_subjects()],
            max_messages_per_subject: 1,
            // With the policy "new" the server would refuse the second message of a subject.
            discard: DiscardPolicy::Old,
            ..stream_config(&names.state, replicas)
        };
        self.create_stream(&config).await
    }

    /// Creates the streams of jobs and records and the consumer of jobs, unless they exist.
    pub(super) async fn create_streams(
        &self,
        spec: &RunSpec,
        replicas: u8,
    ) -> Result<(), QueueError> {
        let names = self.names();
        let description = format!("{} jobs, list {}", spec.jobs, spec.list);
        let jobs = stream::Config {
            subjects: vec![names.jobs_subject(&spec.id)],
            description: Some(description),
            ..stream_config(&names.jobs, replicas)
        };
        let records = stream::Config {
            subjects: vec![names.record_subjects(&spec.id)],
            ..stream_config(&names.records, replicas)
        };
        self.create_stream(&jobs).await?;
        self.create_stream(&records).await?;
        // A stream that was there may belong to a deleted run.
        let jobs = self.jobs_state(&spec.id).await?;
        match self.consumer_state(&spec.id).await {
            Ok(_) => Ok(()),
            // It was deleted: jobs are published only after it was created. Workers may have used it.
            Err(QueueError::NoConsumer { .. }) if jobs.messages > 0 => {
                self.recreate_consumer(spec).await
            }
            Err(QueueError::NoConsumer { .. }) => {
                let recreations = self.recreations().await?;
                self.create_consumer(spec, recreations).await
            }
            Err(error) => Err(error),
        }
    }

    async fn create_stream(&self, config: &stream::Config) -> Result<(), QueueError> {
        let what = "create a stream for the run";
        let subject = format!("STREAM.CREATE.{}", config.name);
        // It consists of strings and numbers, which JSON can represent.
        let config_json = serde_json::to_vec(config).unwrap_or_default();
        let created = self
            .api::<serde_json::Value>(what, &subject, config_json.into())
            .await?;
        match created {
            Ok(_) => Ok(()),
            // An earlier submission of the same run, with other replicas or by another version.
            Err(error) if error.error_code() == ErrorCode::STREAM_NAME_EXIST => Ok(()),
            Err(error) => Err(self.refused(what, &error)),
        }
    }

    /// The state of the stream of jobs of the run with this id.
    pub(super) async fn jobs_state(&self, id: &str) -> Result<StreamState, QueueError> {
        let names = self.names();
        self.stream_state(&names.jobs, &names.jobs_subject(id))
            .await
    }

    /// The state of the stream of records of the run with this id.
    pub(super) async fn records_state(&self, id: &str) -> Result<StreamState, QueueError> {
        let names = self.names();
        self.stream_state(&names.records, &names.record_subjects(id))
            .await
    }

    async fn stream_info(&self, stream: &str) -> Result<StreamInfo, QueueError> {
        let request = format!("STREAM.INFO.{stream}");
        self.api_ok("read the state of a stream", &request, Bytes::new())
            .await
    }

    async fn stream_state(&self, stream: &str, subject: &str) -> Result<StreamState, QueueError> {
        let info = self.stream_info(stream).await?;
        match info.config.subjects.iter().any(|other| other == subject) {
            true => Ok(info.state),
            false => Err(QueueError::OtherRun {
                run: self.run.clone(),
            }),
        }
    }

    /// The last message of a subject. `None`: there is none.
    pub(super) async fn last_message(
        &self,
        stream: &str,
        subject: &str,
    ) -> Result<Option<Stored>, QueueError> {
        self.message(stream, &json!({ "last_by_subj": subject }))
            .await
    }

    /// The first message of a subject, from a sequence on.
    pub(super) async fn next_message(
        &self,
        stream: &str,
        sequence: u64,
        subject: &str,
    ) -> Result<Option<Stored>, QueueError> {
        let request = json!({ "seq": sequence, "next_by_subj": subject });
        self.message(stream, &request).await
    }

    async fn message(
        &self,
        stream: &str,
        request: &serde_json::Value,
    ) -> Result<Option<Stored>, QueueError> {
        let what = "read a message of the run";
        let subject = format!("STREAM.MSG.GET.{stream}");
        let answer = self
            .api::<MessageAnswer>(what, &subject, request.to_string().into())
            .await?;
        let message = match answer {
            Ok(answer) => answer.message,
            Err(error) if error.error_code() == ErrorCode::NO_MESSAGE_FOUND => return Ok(None),
            Err(error) => return Err(self.refused(what, &error)),
        };
        let invalid = |error: &dyn std::error::Error| QueueError::InvalidMessage {
            run: self.run.clone(),
            reason: error.to_string(),
        };
        let payload = BASE64_STANDARD.decode(&message.data);
        let time = message.time.parse::<jiff::Timestamp>();
        Ok(Some(Stored {
            sequence: message.sequence,
            payload: payload.map_err(|error| invalid(&error))?,
            time: time.map_err(|error| invalid(&error))?,
        }))
    }

    /// What the list is, and how jobs run.
    pub(super) async fn spec(&self) -> Result<RunSpec, QueueError> {
        let names = self.names();
        let stored = self
            .last_message(&names.state, &names.spec_subject())
            .await?;
        let stored = stored.ok_or_else(|| QueueError::NoRun {
            run: self.run.clone(),
            server: self.server.clone(),
        })?;
        RunSpec::parse(&self.run, &stored.payload)
    }

    /// Fails if the run with this id was deleted.
    pub(super) async fn is_there(&self, id: &str) -> Result<(), QueueError> {
        match self.spec().await?.id == id {
            true => Ok(()),
            false => Err(QueueError::OtherRun {
                run: self.run.clone(),
            }),
        }
    }

    pub(super) async fn is_cancelled(&self) -> Result<bool, QueueError> {
        let names = self.names();
        let subject = names.cancel_subject();
        let cancelled = self.last_message(&names.state, &subject).await?;
        Ok(cancelled.is_some())
    }
}

fn stream_config(name: &str, replicas: u8) -> stream::Config {
    stream::Config {
        name: name.into(),
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        discard: DiscardPolicy::New,
        // A negative limit is none.
        max_messages: -1,
        max_bytes: -1,
        max_messages_per_subject: -1,
        max_consumers: -1,
        num_replicas: usize::from(replicas),
        duplicate_window: Duration::from_secs(120),
        ..stream::Config::default()
    }
}
