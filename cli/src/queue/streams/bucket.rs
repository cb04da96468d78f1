//! The bucket of a run's logs: an object store of JetStream, which other programs can read as well.

use async_nats::jetstream::stream;
use bytes::Bytes;
use serde_json::{Value, json};

use super::{Connection, QueueError, stream_config};
use crate::queue::model::object_info::ObjectInfo;

impl Connection {
    /// Creates the bucket with the replicas of the run, unless it exists.
    pub(in crate::queue) async fn create_bucket(&self) -> Result<(), QueueError> {
        let names = self.names();
        let replicas = self.stream_info(&names.records).await?.config.num_replicas;
        let config = stream::Config {
            subjects: vec![
                format!("$O.{}.C.>", names.bucket),
                format!("$O.{}.M.>", names.bucket),
            ],
            allow_rollup: true,
            allow_direct: true,
            ..stream_config(&names.bucket_stream(), replicas.max(1))
        };
        self.create_stream(&config).await
    }

    /// Fails if there is no bucket.
    pub(in crate::queue) async fn bucket_is_there(&self) -> Result<(), QueueError> {
        let stream = self.names().bucket_stream();
        self.stream_info(&stream).await.map(|_| ())
    }

    /// The description of an object.
    pub(in crate::queue) async fn object(&self, name: &str) -> Result<ObjectInfo, QueueError> {
        let names = self.names();
        let subject = ObjectInfo::subject(&names.bucket, name);
        let missing = |reason: String| QueueError::NoLog {
            name: name.into(),
            reason,
        };
        let stored = match self.last_message(&names.bucket_stream(), &subject).await {
            Err(error) if error.is_deleted() => return Err(missing("there is no bucket".into())),
            stored => stored?.ok_or_else(|| missing("there is no such object".into()))?,
        };
        serde_json::from_slice(&stored.payload).map_err(|error| missing(error.to_string()))
    }

    /// The next chunk of an object after a sequence of the stream, and its sequence. Each is a request
    /// of its own, so a reader has one chunk in memory.
    pub(in crate::queue) async fn chunk(
        &self,
        object: &ObjectInfo,
        after: u64,
    ) -> Result<Option<(u64, Vec<u8>)>, QueueError> {
        let names = self.names();
        let subject = ObjectInfo::chunk_subject(&names.bucket, &object.nuid);
        let stream = names.bucket_stream();
        let stored = self.next_message(&stream, after.saturating_add(1), &subject);
        Ok(stored
            .await?
            .map(|stored| (stored.sequence, stored.payload)))
    }

    /// Removes the chunks of an object that was not completed, which would take up room.
    pub(in crate::queue) async fn remove_chunks(&self, nuid: &str) -> Result<(), QueueError> {
        let names = self.names();
        let filter = ObjectInfo::chunk_subject(&names.bucket, nuid);
        let request: Bytes = json!({ "filter": filter }).to_string().into();
        let subject = format!("STREAM.PURGE.{}", names.bucket_stream());
        let removed = self.api_ok::<Value>("remove a part of a log", &subject, request);
        removed.await.map(|_| ())
    }
}
