//! The consumer of the jobs, which all workers share.

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::consumer::{self, AckPolicy, pull};
use async_nats::jetstream::message::PublishMessage;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::{Connection, QueueError, RunSpec};

/// How many pull requests of all workers may wait.
const WAITING_MAX: i64 = 100_000;

/// How far the consumer of jobs is.
#[derive(Clone, Debug, Deserialize)]
pub(in crate::queue) struct ConsumerState {
    /// Never delivered.
    pub(in crate::queue) num_pending: u64,
    /// Delivered, and neither done nor given back.
    pub(in crate::queue) num_ack_pending: u64,
    #[serde(default)]
    pub(in crate::queue) num_redelivered: u64,
}

impl Connection {
    /// How often the consumer of jobs was recreated.
    pub(in crate::queue) async fn recreations(&self) -> Result<u64, QueueError> {
        Ok(self.recreations_at().await?.0)
    }

    /// The same, and the sequence of the message that says so; 0 without one.
    async fn recreations_at(&self) -> Result<(u64, u64), QueueError> {
        let names = self.names();
        let subject = names.recreations_subject();
        let Some(stored) = self.last_message(&names.state, &subject).await? else {
            return Ok((0, 0));
        };
        let count = std::str::from_utf8(&stored.payload).ok();
        match count.and_then(|count| count.parse().ok()) {
            Some(count) => Ok((count, stored.sequence)),
            None => Err(QueueError::InvalidMessage {
                run: self.run.clone(),
                reason: format!("{subject} is no number"),
            }),
        }
    }

    pub(in crate::queue) async fn consumer_state(
        &self,
        id: &str,
    ) -> Result<ConsumerState, QueueError> {
        let names = self.names();
        let consumer = names.consumer(id, self.recreations().await?);
        let subject = format!("CONSUMER.INFO.{}.{consumer}", names.jobs);
        let what = "read the state of the jobs";
        match self.api(what, &subject, Bytes::new()).await? {
            Ok(state) => Ok(state),
            Err(error) if error.error_code() == ErrorCode::CONSUMER_NOT_FOUND => {
                let run = self.run.clone();
                Err(QueueError::NoConsumer { run })
            }
            Err(error) => Err(self.refused(what, &error)),
        }
    }

    /// Creates the consumer, unless it exists.
    pub(super) async fn create_consumer(
        &self,
        spec: &RunSpec,
        recreations: u64,
    ) -> Result<(), QueueError> {
        let names = self.names();
        let consumer = names.consumer(&spec.id, recreations);
        let config = pull::Config {
            durable_name: Some(consumer.clone()),
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
        let subject = format!("CONSUMER.CREATE.{}.{consumer}", names.jobs);
        let what = "create the consumer of the jobs";
        self.api_ok::<serde_json::Value>(what, &subject, request.to_string().into())
            .await?;
        Ok(())
    }

    /// Whether jobs were acknowledged that have no result: the server has lost records.
    pub(in crate::queue) async fn has_lost_results(
        &self,
        spec: &RunSpec,
    ) -> Result<bool, QueueError> {
        // First. A job is acknowledged after its result is stored, so those of all jobs that are
        // acknowledged by now are in the state of the stream, which is read later.
        let consumer = self.consumer_state(&spec.id).await?;
        if consumer.num_pending > 0 || consumer.num_ack_pending > 0 {
            return Ok(false);
        }
        let with_result = self.records_state(&spec.id).await?.subjects;
        let complete = with_result >= spec.jobs;
        Ok(!complete && self.jobs_state(&spec.id).await?.last_sequence >= spec.jobs)
    }

    /// Makes all jobs available again. Workers find out which ones have a result.
    pub(in crate::queue) async fn make_available_again(
        &self,
        spec: &RunSpec,
    ) -> Result<(), QueueError> {
        let names = self.names();
        let before = names.consumer(&spec.id, self.recreations().await?);
        self.recreate_consumer(spec).await?;
        let subject = format!("CONSUMER.DELETE.{}.{before}", names.jobs);
        let what = "delete the consumer of the jobs";
        match self
            .api::<serde_json::Value>(what, &subject, Bytes::new())
            .await?
        {
            Err(error) if error.error_code() != ErrorCode::CONSUMER_NOT_FOUND => {
                Err(self.refused(what, &error))
            }
            _ => Ok(()),
        }
    }

    /// Creates a consumer with another name, and then publishes the number in its name. It does not
    /// know which jobs are done, so workers have to look that up: they learn of it before they get a
    /// job from it. Of several processes at a time one publishes the number.
    pub(super) async fn recreate_consumer(&self, spec: &RunSpec) -> Result<(), QueueError> {
        let (before, sequence) = self.recreations_at().await?;
        let recreations = before.saturating_add(1);
        self.create_consumer(spec, recreations).await?;
        let message = PublishMessage::build()
            .payload(recreations.to_string().into())
            .expected_last_subject_sequence(sequence);
        let subject = self.names().recreations_subject();
        let what = "recreate the consumer of the jobs";
        self.publish_first(what, subject, message).await
    }
}
