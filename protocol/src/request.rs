//! What clients ask for.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a client calls a request, given back with the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RequestId {
    /// A number.
    Number(u64),
    /// A text, of 64 bytes at most.
    Text(String),
}

/// One request. On the line it has an `id` beside it, and `op` says which it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Request {
    /// The first line of every connection.
    Hello(Hello),
    /// Watch a process that somebody else reaps.
    Watch(Watch),
    /// Forget a watch: no record will come of it.
    Unwatch(Unwatch),
    /// Start a process, and watch it.
    Spawn(Spawn),
    /// Send a signal to a watched process.
    Signal(Signal),
    /// The live watches, in pages.
    List(List),
    /// Have exit records sent, from a place in the log on; replaces an earlier subscription of the connection.
    Subscribe(Subscribe),
    /// Say which records are not needed any more.
    Ack(Acknowledge),
    /// How the service is.
    Stats(Empty),
    /// The same as OpenMetrics text.
    Metrics(Empty),
}

/// A request without anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

/// Who is there, and what version it speaks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// [`VERSION`](crate::VERSION).
    pub version: u32,
    /// A name of 64 bytes at most. Watches belong to it, and all that the connection lists, sees and acknowledges is confined
    /// to it. Without a name it is all that the user has (for root: everybody's; but root acknowledges only its own).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
}

/// What to watch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Watch {
    /// The process. Left out, a pidfd comes with the line (`SCM_RIGHTS`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// What to call it, in 256 bytes at most.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tag: String,
    /// Which moment is meant.
    #[serde(default)]
    pub until: Moment,
}

/// Which moment is watched for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// When it has ended; its status is not told then, except of what the service started.
    #[default]
    Exited,
    /// When its parent has reaped it, with the status, from Linux 6.15 on.
    Reaped,
}

/// Which watch to forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unwatch {
    /// The watch.
    pub watch: u64,
}

/// What to start. It leads a process group of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spawn {
    /// The program and its arguments; the program is looked up in `PATH` unless it has a slash.
    pub argv: Vec<String>,
    /// The whole environment. Left out: `PATH` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<BTreeMap<String, String>>,
    /// Where it runs. Left out: `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<PathBuf>,
    /// A file to read from. Left out: nothing to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<PathBuf>,
    /// A file to append to. Left out: nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout: Option<PathBuf>,
    /// A file to append to. Left out: nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr: Option<PathBuf>,
    /// After so many milliseconds it is sent `SIGTERM`, as is its process group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// And `SIGKILL` after so many more. Left out: 5,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_ms: Option<u64>,
    /// What to call it, in 256 bytes at most.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tag: String,
}

/// A signal to a watched process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Signal {
    /// The watch.
    pub watch: u64,
    /// The signal's number.
    pub signal: i32,
    /// To its whole process group, which it has to lead.
    #[serde(default)]
    pub group: bool,
}

/// Which live watches to list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// Only watches above this one.
    #[serde(default)]
    pub after: u64,
    /// So many at most, of 500.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u16>,
}

/// Which records to send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Subscribe {
    /// The first place in the log that is of interest. 0: all that is kept.
    #[serde(default)]
    pub from: u64,
}

/// Which records are not needed any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Acknowledge {
    /// All up to this place in the log, itself included.
    pub upto: u64,
}

impl Request {
    /// What it is called on the line.
    pub fn op(&self) -> &'static str {
        match self {
            Self::Hello(_) => "hello",
            Self::Watch(_) => "watch",
            Self::Unwatch(_) => "unwatch",
            Self::Spawn(_) => "spawn",
            Self::Signal(_) => "signal",
            Self::List(_) => "list",
            Self::Subscribe(_) => "subscribe",
            Self::Ack(_) => "ack",
            Self::Stats(_) => "stats",
            Self::Metrics(_) => "metrics",
        }
    }
}
