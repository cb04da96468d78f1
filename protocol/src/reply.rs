//! Lines of the service: answers and events.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Error, Record, RequestId, WatchFor};

/// One line of the service: an answer or an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ServerLine {
    /// The answer to a request that succeeded.
    Ok {
        /// The id of the request.
        id: Option<RequestId>,
        /// The result.
        ok: Box<Answer>,
    },
    /// The answer to a request that failed.
    Error {
        /// The id of the request, if it could be read.
        id: Option<RequestId>,
        /// The error.
        error: Error,
    },
    /// Event: an exit record of the subscription.
    Exit {
        /// The record.
        exit: Box<Record>,
    },
    /// Event: records of the subscription that were dropped unacknowledged.
    Lost {
        /// Which records.
        lost: Loss,
    },
    /// Event: all records that existed when the subscription began are sent; those that follow are
    /// new.
    CaughtUp {
        /// The last position in the log at that time.
        caught_up: u64,
    },
}

/// The result of a request, by its kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The answer to `hello`.
    Hello(Welcome),
    /// The answer to `watch` and `spawn`.
    Watched(Watched),
    /// The answer to `unwatch`, with the number of the watch. No record will come.
    Unwatched(u64),
    /// The answer to `signal`, with the number of the watch. The signal was sent.
    Signaled(u64),
    /// The answer to `list`.
    Live(Page),
    /// The answer to `subscribe`. Events follow, from this position on.
    Subscribed(u64),
    /// The answer to `ack`, with the number of records that were dropped.
    Acked(u64),
    /// The answer to `stats`.
    Stats(Box<Counts>),
    /// The answer to `metrics`: OpenMetrics text.
    Metrics(String),
}

/// The answer to `hello`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Welcome {
    /// The version of the protocol.
    pub version: u32,
    /// The version of the service.
    pub service: String,
    /// An identifier of the state directory, made when the directory was created. Numbers of watches and
    /// positions in the log are valid for one instance only.
    pub instance: String,
    /// The user id of the client.
    pub uid: u32,
    /// The limits that apply to the client.
    pub limits: Limits,
}

/// The service's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Limits {
    /// Bytes in a line, without its end.
    pub line_bytes: usize,
    /// Levels of nesting in a line.
    pub depth: usize,
    /// Clients at a time.
    pub clients: usize,
    /// Live watches of one user.
    pub watches_per_user: usize,
    /// Live watches of all users.
    pub watches: usize,
    /// Unacknowledged records that are kept.
    pub records_kept: u64,
    /// For how many seconds they are kept.
    pub records_kept_s: u64,
}

/// The answer to `watch` and `spawn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Watched {
    /// The number of the watch.
    pub watch: u64,
    /// The pid of the process.
    pub pid: i32,
}

/// A page of live watches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Page {
    /// The watches, in the order of their numbers.
    pub watches: Vec<Live>,
    /// Whether more watches follow the last.
    pub more: bool,
}

/// A live watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Live {
    /// The number of the watch.
    pub watch: u64,
    /// The pid of the process.
    pub pid: i32,
    /// The text that the client gave the watch.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tag: String,
    /// The name of the client that owns the watch.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub client: String,
    /// The user that owns the watch.
    pub uid: u32,
    /// Whether the service started the process.
    pub spawned: bool,
    /// The event that the watch waits for.
    pub until: WatchFor,
    /// When the watch began: milliseconds since 1970.
    pub began_ms: u64,
}

/// Unacknowledged records that were dropped, because they were too many or too old.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Loss {
    /// The first position in the log that was dropped, of those in the subscription.
    pub from: u64,
    /// The last position that was dropped.
    pub to: u64,
    /// How many records of the user, or of the client, were ever dropped up to there.
    pub count: u64,
}

/// Counts of the service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Counts {
    /// Connected clients.
    pub clients: u64,
    /// Live watches.
    pub watched: u64,
    /// Records that are kept.
    pub records: u64,
    /// The last position in the log.
    pub last_seq: u64,
    /// Exits recorded since the service started.
    pub exits: u64,
    /// Those of them with an unknown outcome.
    pub unknown: u64,
    /// Transactions committed since the service started.
    pub commits: u64,
    /// Unacknowledged records dropped since the service started.
    pub dropped: u64,
    /// Exits that the service has seen but could not record yet.
    pub pending: u64,
    /// Why new requests are refused, if they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_error: Option<String>,
    /// The backend of the watcher.
    pub backend: String,
}

impl Limits {
    /// The limits before the service has announced any.
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
