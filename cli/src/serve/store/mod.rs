//! What outlives the service: live watches, and the log of exit records, in SQLite.
//!
//! One thread writes. It takes what has come, all of it, into one transaction, and only when that is committed are
//! requests answered and records told of. Who is behind reads from the same file by a connection of its own.
//!
//! - `open.rs`: the state folder, its lock, the schema.
//! - `writer.rs`: the thread. `tables.rs`: its statements.
//! - `age.rs`: the clock that records age by. `health.rs`: whether anything can be written.
//! - `reader.rs`: pages of records from the file. `tail.rs`: the newest records, in memory.

mod age;
mod health;
mod open;
mod reader;
mod tables;
mod tail;
mod writer;

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use exitring_protocol::{Code, Error, Loss, Outcome, Usage};
use tokio::sync::{oneshot, watch};

use self::health::Health;
pub(crate) use self::open::{Durability, Restored, Retention, State, is_at, lock_file};
pub(crate) use self::reader::Reader;
pub(crate) use self::tail::Tail;
use super::deadlines::Deadlines;
use super::live::{Birth, Live, Registry};
use super::metrics::Metrics;

/// Whose records and watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scope {
    /// `None`: everybody's.
    pub(crate) uid: Option<u32>,
    /// `None`: with whatever name.
    pub(crate) client: Option<String>,
}

impl Scope {
    /// The condition on a row, in such words that the index is used: a condition that holds of everything if a parameter is
    /// null is none that SQLite plans by.
    fn condition(&self) -> &'static str {
        match (self.uid, &self.client) {
            (Some(_), Some(_)) => "uid = ?1 AND client = ?2",
            (Some(_), None) => "uid = ?1 AND ?2 IS NULL",
            (None, Some(_)) => "?1 IS NULL AND client = ?2",
            (None, None) => "?1 IS NULL AND ?2 IS NULL",
        }
    }

    pub(crate) fn has(&self, uid: u32, client: &str) -> bool {
        self.uid.is_none_or(|own| own == uid)
            && self.client.as_deref().is_none_or(|own| own == client)
    }
}

/// Some of the log, as lines to be sent.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// What was to be had and is not kept any more; told first.
    pub(crate) lost: Option<Loss>,
    pub(crate) text: Vec<u8>,
    /// Where the next page begins.
    pub(crate) next: u64,
}

/// How a watched process ended.
pub(crate) struct Ended {
    pub(crate) live: Arc<Live>,
    pub(crate) outcome: Outcome,
    pub(crate) usage: Option<Usage>,
    pub(crate) ended_ms: u64,
}

/// What the writer is told.
enum Message {
    Begin(Birth, oneshot::Sender<Result<(), Error>>),
    Forget(u64, oneshot::Sender<Result<bool, Error>>),
    Exit(Ended),
    Ack {
        scope: Scope,
        upto: u64,
        reply: oneshot::Sender<Result<u64, Error>>,
    },
    Stop,
}

/// The way to the writer. What waits in it is bounded: each connection asks one thing at a time, and each live watch
/// ends once.
#[derive(Clone)]
pub(crate) struct Store {
    messages: mpsc::Sender<Message>,
    health: Arc<Health>,
}

impl Store {
    /// Starts the writer. The log is complete up to what `committed` says.
    pub(crate) fn start(
        state: State,
        tail: Arc<Tail>,
        committed: watch::Sender<u64>,
        metrics: Arc<Metrics>,
        registry: Arc<Registry>,
        deadlines: Arc<Deadlines>,
    ) -> anyhow::Result<(Self, std::thread::JoinHandle<State>)> {
        let (messages, inbox) = mpsc::channel();
        let health = Arc::new(Health::default());
        let store = Self {
            messages,
            health: Arc::clone(&health),
        };
        let writer =
            writer::Writer::new(state, tail, committed, metrics, health, registry, deadlines)?;
        let thread = std::thread::Builder::new()
            .name("exitring-store".into())
            .spawn(move || {
                let run = std::panic::AssertUnwindSafe(|| writer.run(&inbox));
                // The panic hook has said why. Without a writer nothing that ends would ever be told: better to be
                // started again, by which nothing is lost.
                std::panic::catch_unwind(run).unwrap_or_else(|_| std::process::abort())
            })?;
        Ok((store, thread))
    }

    /// Writes down a new live watch.
    pub(crate) async fn begin(&self, birth: Birth) -> Result<(), Error> {
        self.ask(|reply| Message::Begin(birth, reply)).await?
    }

    /// Strikes out a live watch; whether there was one.
    pub(crate) async fn forget(&self, watch: u64) -> Result<bool, Error> {
        self.ask(|reply| Message::Forget(watch, reply)).await?
    }

    /// Lets go of records; how many there were.
    pub(crate) async fn ack(&self, scope: Scope, upto: u64) -> Result<u64, Error> {
        self.ask(|reply| Message::Ack { scope, upto, reply })
            .await?
    }

    /// Writes down an exit, now or as soon as that is possible. Does not block.
    pub(crate) fn exit(&self, ended: Ended) {
        // The writer ends after all that could tell of exits.
        let _ = self.messages.send(Message::Exit(ended));
    }

    /// The writer ends when it has written down what was sent before this.
    pub(crate) fn stop(&self) {
        let _ = self.messages.send(Message::Stop);
    }

    /// Why nothing can be written, if so.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.health.trouble()
    }

    /// The same, if exits have waited for so long.
    pub(crate) fn exits_kept_waiting(&self, patience: Duration) -> Option<Error> {
        let trouble = self.health.exits_kept_waiting(patience)?;
        Some(refusal(&trouble))
    }

    /// Whether the state was deleted or replaced, as the writer sees it now.
    pub(crate) async fn is_gone(&self) -> bool {
        // It looks before whatever it does, and this strikes out nothing.
        let _ = self.forget(0).await;
        self.health.is_gone()
    }

    /// When the state was deleted or replaced.
    pub(crate) async fn gone(&self) {
        self.health.gone().await;
    }

    /// Nothing new is begun while it could not be written down.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match self.trouble() {
            None => Ok(()),
            Some(trouble) => Err(refusal(&trouble)),
        }
    }

    async fn ask<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<T>) -> Message,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let ended = || Error::new(Code::Stopping, "the service is ending; connect again later");
        self.messages.send(message(reply)).map_err(|_| ended())?;
        answer.await.map_err(|_| ended())
    }
}

fn refusal(trouble: &str) -> Error {
    let message = format!(
        "the state cannot be written ({trouble}), so nothing new is taken; make room on its disk, or see why it cannot be"
    );
    Error::new(Code::Storage, message)
}
