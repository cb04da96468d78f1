//! What the service says.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Error, Moment, Record, RequestId};

/// One line from the service: the first, an answer, or an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ServerLine {
    /// It was done.
    Ok {
        /// The request's.
        id: Option<RequestId>,
        /// What came of it.
        ok: Box<Answer>,
    },
    /// It was not.
    Error {
        /// The request's, if it could be told.
        id: Option<RequestId>,
        /// Why not.
        error: Error,
    },
    /// An exit record that was subscribed to.
    Exit {
        /// The record.
        exit: Box<Record>,
    },
    /// Records that were subscribed to, and are gone unacknowledged.
    Lost {
        /// Which.
        lost: Loss,
    },
    /// All that was there when the subscription began has been sent; what follows is new.
    CaughtUp {
        /// The last place in the log then.
        caught_up: u64,
    },
}

/// What came of a request, by its kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Of `hello`.
    Hello(Welcome),
    /// Of `watch` and `spawn`.
    Watched(Watched),
    /// Of `unwatch`: no record will come.
    Unwatched(u64),
    /// Of `signal`: it was sent.
    Signaled(u64),
    /// Of `list`.
    Live(Page),
    /// Of `subscribe`: events follow, from this place on.
    Subscribed(u64),
    /// Of `ack`: so many records were dropped.
    Acked(u64),
    /// Of `stats`.
    Stats(Box<Counts>),
    /// Of `metrics`: OpenMetrics text.
    Metrics(String),
}

/// The answer to `hello`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Welcome {
    /// The protocol's version.
    pub version: u32,
    /// The service's own.
    pub service: String,
    /// A name of the state folder's, made when it was new: what is known of another says nothing here.
    pub instance: String,
    /// Who the client is to the service.
    pub uid: u32,
    /// What it may.
    pub limits: Limits,
}

/// The service's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Limits {
    /// Bytes in a line, its end not counted.
    pub line_bytes: usize,
    /// How deep a line may be nested.
    pub depth: usize,
    /// Clients at a time.
    pub clients: usize,
    /// Live watches of one user.
    pub watches_per_user: usize,
    /// Live watches of all.
    pub watches: usize,
    /// Unacknowledged records kept.
    pub records_kept: u64,
    /// For how many seconds they are kept.
    pub records_kept_s: u64,
}

/// The answer to `watch` and `spawn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Watched {
    /// The watch.
    pub watch: u64,
    /// The process.
    pub pid: i32,
}

/// Some live watches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Page {
    /// In the order of their numbers.
    pub watches: Vec<Live>,
    /// Whether there are more after the last.
    pub more: bool,
}

/// A live watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Live {
    /// The watch.
    pub watch: u64,
    /// The process.
    pub pid: i32,
    /// What the client called it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tag: String,
    /// The name of the client whose it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub client: String,
    /// The user whose it is.
    pub uid: u32,
    /// Whether the service started it.
    pub spawned: bool,
    /// The moment that is watched for.
    pub until: Moment,
    /// When the watch began: milliseconds since 1970.
    pub began_ms: u64,
}

/// Unacknowledged records that were dropped, because too many, or too old.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Loss {
    /// The first place in the log that was dropped (of what was asked for).
    pub from: u64,
    /// The last.
    pub to: u64,
    /// How many of the user's, or the client's, were ever dropped up to there.
    pub count: u64,
}

/// How the service is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counts {
    /// Clients connected.
    pub clients: u64,
    /// Live watches.
    pub watched: u64,
    /// Records that are kept.
    pub records: u64,
    /// The last place in the log.
    pub last_seq: u64,
    /// Exits written down, since the service started.
    pub exits: u64,
    /// Of these, of unknown outcome.
    pub unknown: u64,
    /// Transactions committed, since the service started.
    pub commits: u64,
    /// Unacknowledged records dropped, since the service started.
    pub dropped: u64,
    /// Exits that were seen and could not be written down yet.
    pub pending: u64,
    /// Why nothing new is taken, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_error: Option<String>,
    /// What the watcher waits with.
    pub backend: String,
}

impl Limits {
    /// Of nobody.
    pub(crate) const NONE: Self = Self {
        line_bytes: 0,
        depth: 0,
        clients: 0,
        watches_per_user: 0,
        watches: 0,
        records_kept: 0,
        records_kept_s: 0,
    };
}
