//! The handle that sends messages to the writer.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use exitring_protocol::{Code, Error};
use tokio::sync::{oneshot, watch};

use super::health::Health;
use super::message::{Message, PendingAck, ProcessExit, Reply, refusal};
use super::recent::RecentRecords;
use super::state::StateDirectory;
use super::writer::Writer;
use crate::serve::metrics::Metrics;
use crate::serve::watches::{Deadlines, Registry, Scope, WatchInfo};

/// The store. The queue of messages is bounded in effect: each connection has one request at a
/// time, and each live watch ends once.
#[derive(Clone)]
pub(crate) struct Store {
    messages: mpsc::Sender<Message>,
    health: Arc<Health>,
}

impl Store {
    /// Starts the writer. `committed` is the sequence number of the last committed record.
    pub(crate) fn start(
        state: StateDirectory,
        recent: Arc<RecentRecords>,
        committed: watch::Sender<u64>,
        metrics: Arc<Metrics>,
        registry: Arc<Registry>,
        deadlines: Arc<Deadlines>,
    ) -> anyhow::Result<(Self, JoinHandle<StateDirectory>)> {
        let (messages, queue) = mpsc::channel();
        let health = Arc::new(Health::default());
        let store = Self {
            messages,
            health: Arc::clone(&health),
        };
        let writer = Writer::new(
            state, recent, committed, metrics, health, registry, deadlines,
        )?;
        let thread = std::thread::Builder::new()
            .name("exitring-store".into())
            .spawn(move || {
                let run = std::panic::AssertUnwindSafe(|| writer.run(&queue));
                // The panic hook has logged the cause. Without a writer the service would never
                // report another exit. After an abort and a restart nothing is lost.
                std::panic::catch_unwind(run).unwrap_or_else(|_| std::process::abort())
            })?;
        Ok((store, thread))
    }

    /// Stores a new live watch.
    pub(crate) async fn begin(&self, info: WatchInfo) -> Result<(), Error> {
        self.ask(|reply| Message::Begin(info, reply)).await
    }

    /// Deletes a live watch. Returns whether there was one.
    pub(crate) async fn forget(&self, watch: u64) -> Result<bool, Error> {
        self.ask(|reply| Message::Forget(watch, reply)).await
    }

    /// Stores when SIGTERM was sent to a process that has timed out, so that its grace does not
    /// start again when the service does. Does not block. If the state cannot be written, that is lost,
    /// and the grace starts again.
    pub(crate) fn terminated(&self, watch: u64, at_ms: u64) {
        // The writer stops only after the timeouts.
        let _ = self.messages.send(Message::Terminated(watch, at_ms));
    }

    /// Deletes acknowledged records. Returns how many there were.
    pub(crate) async fn ack(&self, scope: Scope, upto: u64) -> Result<u64, Error> {
        let ack = |reply| PendingAck {
            scope,
            upto,
            deleted: 0,
            reply,
        };
        self.ask(|reply| Message::Ack(ack(reply))).await
    }

    /// Stores an exit, now or as soon as that is possible. Does not block.
    pub(crate) fn exit(&self, exit: ProcessExit) {
        // The writer stops only after everything that reports exits.
        let _ = self.messages.send(Message::Exit(exit));
    }

    /// The writer stops when it has stored what was sent before this.
    pub(crate) fn stop(&self) {
        let _ = self.messages.send(Message::Stop);
    }

    /// Why the state cannot be written, or `None` if it can.
    pub(crate) fn write_error(&self) -> Option<String> {
        self.health.write_error()
    }

    /// The refusal for a subscriber, if exits have been waiting to be stored for this long.
    pub(crate) fn exits_delayed(&self, limit: Duration) -> Option<Error> {
        let cause = self.health.exits_delayed(limit)?;
        Some(refusal(&cause))
    }

    /// Whether the state was deleted or replaced. The writer checks that now.
    pub(crate) async fn is_lost(&self) -> bool {
        // The writer checks the files before each request. No watch has number 0, so this request
        // deletes nothing.
        let _ = self.forget(0).await;
        self.health.is_lost()
    }

    /// Waits until the state is deleted or replaced.
    pub(crate) async fn lost(&self) {
        self.health.lost().await;
    }

    /// Refuses a new watch while it could not be stored.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match self.write_error() {
            None => Ok(()),
            Some(cause) => Err(refusal(&cause)),
        }
    }

    async fn ask<T>(&self, message: impl FnOnce(Reply<T>) -> Message) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let stopped = || {
            Error::new(
                Code::Stopping,
                "the service is stopping; connect again later",
            )
        };
        self.messages.send(message(reply)).map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}
