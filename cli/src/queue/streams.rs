//! The streams of a run, and the consumer of its jobs.
//!
//! A run has three streams, all with limits retention: nothing is removed before the run is deleted.
//! (Work queue retention has lost messages: nats-server issues 5638 and 7817.)
//!
//! | stream | subjects | messages |
//! |---|---|---|
//! | `exitring-RUN` | `exitring.RUN.state.>` | the last one of each subject: the [`RunSpec`], cancellation, signs of life, how often a job was given back |
//! | `exitring-RUN-jobs` | `exitring.RUN.jobs` | job N is message N |
//! | `exitring-RUN-records` | `exitring.RUN.record.*` | the results, a subject for each job: the number of subjects is the number of jobs with a result |

pub(super) mod records;

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::stream::{self, DiscardPolicy, RetentionPolicy, StorageType};
use async_nats::jetstream::{ErrorCode, consumer};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::connection::{ANSWER_TIMEOUT, Connection};
use super::error::QueueError;
use super::model::run_spec::RunSpec;

/// The consumer that all workers share.
pub(super) const WORKERS: &str = "workers";
/// How many pull requests of all workers may wait.
const WAITING_MAX: i64 = 100_000;

/// The names of a run's streams and subjects.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) state: String,
    pub(super) jobs: String,
    pub(super) records: String,
    prefix: String,
}

impl Names {
    pub(super) fn of(run: &str) -> Self {
        Self {
            state: format!("exitring-{run}"),
            jobs: format!("exitring-{run}-jobs"),
            records: format!("exitring-{run}-records"),
            prefix: format!("exitring.{run}"),
        }
    }

    pub(super) fn spec_subject(&self) -> String {
        format!("{}.state.spec", self.prefix)
    }

    pub(super) fn cancel_subject(&self) -> String {
        format!("{}.state.cancel", self.prefix)
    }

    /// For the time of the server's clock.
    pub(super) fn clock_subject(&self) -> String {
        format!("{}.state.clock", self.prefix)
    }

    /// The consumer was deleted and made again.
    pub(super) fn made_again_subject(&self) -> String {
        format!("{}.state.made-again", self.prefix)
    }

    pub(super) fn worker_subject(&self, worker: &str) -> String {
        format!("{}.state.worker.{worker}", self.prefix)
    }

    /// How often a job was given back by a worker that ended.
    pub(super) fn given_back_subject(&self, job: u64) -> String {
        format!("{}.state.back.{job}", self.prefix)
    }

    pub(super) fn state_subjects(&self) -> String {
        format!("{}.state.>", self.prefix)
    }

    pub(super) fn jobs_subject(&self) -> String {
        format!("{}.jobs", self.prefix)
    }

    pub(super) fn record_subjects(&self) -> String {
        format!("{}.record.*", self.prefix)
    }

    pub(super) fn record_subject(&self, job: u64) -> String {
        format!("{}.record.{job}", self.prefix)
    }
}

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
    state: StreamState,
}

/// How far the consumer of jobs is.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ConsumerState {
    /// Never delivered.
    pub(super) num_pending: u64,
    /// Delivered, and neither done nor given back.
    pub(super) num_ack_pending: u64,
    #[serde(default)]
    pub(super) num_redelivered: u64,
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
            subjects: vec![names.jobs_subject()],
            description: Some(description),
            ..stream_config(&names.jobs, replicas)
        };
        let records = stream::Config {
            subjects: vec![names.record_subjects()],
            ..stream_config(&names.records, replicas)
        };
        self.create_stream(&jobs).await?;
        self.create_stream(&records).await?;
        let config = pull::Config {
            durable_name: Some(WORKERS.into()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: spec.lease(),
            // Deliveries are counted by the workers.
            max_deliver: -1,
            // The limit would be one for all workers together.
            max_ack_pending: -1,
            max_waiting: WAITING_MAX,
            ..pull::Config::default()
        };
        let request = json!({
            "stream_name": names.jobs,
            "config": consumer::IntoConsumerConfig::into_consumer_config(config),
        });
        if self.stream_state(&names.records).await?.messages > 0
            && let Err(QueueError::NoRun { .. }) = self.consumer_state().await
        {
            // Somebody has deleted it, and it knows which jobs are done.
            let noted = self
                .client
                .publish(names.made_again_subject(), Bytes::new());
            let _ = noted.await;
            self.flush().await;
        }
        let subject = format!("CONSUMER.CREATE.{}.{WORKERS}", names.jobs);
        let what = "create the consumer of the jobs";
        self.api_ok::<serde_json::Value>(what, &subject, request.to_string().into())
            .await?;
        Ok(())
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

    pub(super) async fn stream_state(&self, stream: &str) -> Result<StreamState, QueueError> {
        let subject = format!("STREAM.INFO.{stream}");
        let info: StreamInfo = self
            .api_ok("read the state of a stream", &subject, Bytes::new())
            .await?;
        Ok(info.state)
    }

    pub(super) async fn consumer_state(&self) -> Result<ConsumerState, QueueError> {
        let subject = format!("CONSUMER.INFO.{}.{WORKERS}", self.names().jobs);
        self.api_ok("read the state of the jobs", &subject, Bytes::new())
            .await
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
