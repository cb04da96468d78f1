//! The record of one exit.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One exit, as it was written down before it was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Record {
    /// Its place in the log: grows, with gaps, and is never given twice.
    pub seq: u64,
    /// The watch: given by the service, never twice in the life of a state folder.
    pub watch: u64,
    /// The process; its number may be another's by now.
    pub pid: i32,
    /// What the client called it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tag: String,
    /// The name of the client whose watch it was.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub client: String,
    /// The user whose watch it was.
    pub uid: u32,
    /// Whether the service started it.
    pub spawned: bool,
    /// How it ended.
    pub outcome: Outcome,
    /// What it used, if the kernel told: it does so for what the service started, and did not lose by a crash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// When the watch began: milliseconds since 1970.
    pub began_ms: u64,
    /// When its end was seen: milliseconds since 1970. After a crash of the service that may be late.
    pub ended_ms: u64,
    /// Whether it ended after its time-out had sent it a signal.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub timed_out: bool,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It called `exit` with this code (0 to 255).
    Exited(i32),
    /// A signal ended it.
    Signaled {
        /// The signal's number.
        signal: i32,
        /// Whether the kernel says that it dumped core.
        core_dumped: bool,
    },
    /// It ended, and the status cannot be told.
    Unknown(Unknown),
}

/// Why a status cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unknown {
    /// The service is not its parent, and the kernel tells a status to the parent only (to others once the parent has
    /// reaped it, from Linux 6.15 on: watch with `"until": "reaped"`).
    NotAChild,
    /// Something else reaped it before its status could be read.
    ReapedElsewhere,
    /// The kernel kept no status, for `SIGCHLD` was ignored.
    SigchldIgnored,
    /// The service had no descriptor to read it with.
    NoDescriptor,
    /// It ended while the service was down, and nobody can tell any more.
    ServiceDown,
    /// It is dead, and whoever inherited it when the service was killed has not reaped it for long.
    NotReaped,
    /// A reason that this version has no name for.
    #[serde(other)]
    Other,
}

/// What a process used, its waited-for descendants included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Usage {
    /// Processor time in user space, in microseconds.
    pub user_us: u64,
    /// Processor time in the kernel, in microseconds.
    pub system_us: u64,
    /// The largest resident set, in bytes.
    pub max_rss_bytes: u64,
}
