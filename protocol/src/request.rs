//! Requests of clients.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{CgroupLimits, Resource, ResourceLimit};

/// The name that a client gives a request. The answer repeats it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RequestId {
    /// A number.
    Number(u64),
    /// A text, of 64 bytes at most.
    Text(String),
}

/// One request. In the line `op` names its kind, and `id` its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Request {
    /// The first line of every connection.
    Hello(Hello),
    /// Watch a process that another process reaps.
    Watch(Watch),
    /// Remove a watch. No record of it will come.
    Unwatch(Unwatch),
    /// Start a process, and watch it.
    Spawn(Box<Spawn>),
    /// Send a signal to a watched process.
    Signal(Signal),
    /// List the live watches, in pages.
    List(List),
    /// Subscribe to the exit records from a position in the log on. This replaces an earlier
    /// subscription of the connection.
    Subscribe(Subscribe),
    /// Acknowledge records, so that the service may drop them.
    Ack(Acknowledge),
    /// Counts of the service.
    Stats(Empty),
    /// Metrics as OpenMetrics text.
    Metrics(Empty),
}

/// A request without arguments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

/// The name of the client, and its version of the protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// [`VERSION`](crate::VERSION).
    pub version: u32,
    /// A name of at most 64 bytes. Watches belong to it, and the connection lists, reads and
    /// acknowledges those of this name only. A connection without a name has access to all watches
    /// and records of the user. For root these are the ones of all users, but root acknowledges
    /// only its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
}

/// What to watch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Watch {
    /// The pid of the process. Without it a pidfd must come with the line (`SCM_RIGHTS`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// A text of at most 256 bytes, which records repeat.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tag: String,
    /// The event to wait for.
    #[serde(default)]
    pub until: WatchFor,
}

/// The event that a watch waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WatchFor {
    /// The exit of the process. The status is known then only if the service has started the
    /// process.
    #[default]
    Exited,
    /// The reap by the parent, with the status, from Linux 6.15 on.
    Reaped,
}

/// Which watch to remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unwatch {
    /// The number of the watch.
    pub watch: u64,
}

/// What to start. The process leads a process group of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spawn {
    /// The program and its arguments. A program without a slash is searched in `PATH`.
    pub argv: Vec<String>,
    /// The whole environment. Default: `PATH` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<BTreeMap<String, String>>,
    /// The working directory. Default: `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<PathBuf>,
    /// A file to read from. Default: `/dev/null`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<PathBuf>,
    /// A file to append to. Default: `/dev/null`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout: Option<PathBuf>,
    /// A file to append to. Default: `/dev/null`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr: Option<PathBuf>,
    /// The process and its group are sent `SIGTERM` after this many milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// They are sent `SIGKILL` this many milliseconds after `SIGTERM`. Default: 5,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_ms: Option<u64>,
    /// Resource limits. Only root may raise a hard limit. Default: those of the service.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("propertyNames" = serde_json::json!({"enum": Resource::ALL})))]
    pub limits: BTreeMap<Resource, ResourceLimit>,
    /// The nice value, from -20 (most CPU time) to 19. Only root may set a lower one than the
    /// service has. Default: that of the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nice: Option<i32>,
    /// The file mode creation mask, from 0 to 511 (octal 777). It also applies to the files that
    /// `stdout` and `stderr` create. Default: that of the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub umask: Option<u32>,
    /// A cgroup for the process and all its descendants, with limits of all of them together. After
    /// a timeout, all of them are killed. Default: that of the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<CgroupLimits>,
    /// A text of at most 256 bytes, which records repeat.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tag: String,
}

/// A signal to a watched process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Signal {
    /// The number of the watch.
    pub watch: u64,
    /// The number of the signal.
    pub signal: i32,
    /// Signal the whole process group, which the process must lead.
    #[serde(default)]
    pub group: bool,
}

/// Which live watches to list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// Only watches with a higher number than this.
    #[serde(default)]
    pub after: u64,
    /// At most this many watches. The service returns at most 500.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u16>,
}

/// Which records to send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Subscribe {
    /// The first position in the log. 0: all records that are kept.
    #[serde(default)]
    pub from: u64,
}

/// Which records to acknowledge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Acknowledge {
    /// All records up to and including this position in the log.
    pub upto: u64,
}

impl Request {
    /// The value of `op` in the line.
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
