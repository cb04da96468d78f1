//! The consumer of the jobs, which all workers share.

use async_nats::jetstream::consumer::{self, AckPolicy, pull};
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
    pub(in crate::queue) async fn consumer_state(
        &self,
        id: &str,
    ) -> Result<ConsumerState, QueueError> {
        let names = self.names();
        let subject = format!("CONSUMER.INFO.{}.{}", names.jobs, names.consumer(id));
        self.api_ok("read the state of the jobs", &subject, Bytes::new())
            .await
    }

    pub(super) async fn create_consumer(&self, spec: &RunSpec) -> Result<(), QueueError> {
        let names = self.names();
        let config = pull::Config {
            durable_name: Some(names.consumer(&spec.id)),
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
        let subject = format!(
            "CONSUMER.CREATE.{}.{}",
            names.jobs,
            names.consumer(&spec.id)
        );
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
        self.note_requeued().await;
        let names = self.names();
        let subject = format!(
            "CONSUMER.DELETE.{}.{}",
            names.jobs,
            names.consumer(&spec.id)
        );
        let what = "delete the consumer of the jobs";
        self.api_ok::<serde_json::Value>(what, &subject, Bytes::new())
            .await?;
        self.create_consumer(spec).await
    }

    /// A new consumer does not know which jobs are done, so workers have to look that up.
    pub(super) async fn note_requeued(&self) {
        let subject = self.names().requeued_subject();
        let _ = self.client.publish(subject, Bytes::new()).await;
        self.flush().await;
    }
}
