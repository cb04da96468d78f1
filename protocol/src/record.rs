//! The record of one exit.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::CgroupUsage;

/// The record of one exit. The service stores a record before it delivers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Record {
    /// The position in the log. Positions grow, with gaps, and are never reused.
    pub seq: u64,
    /// The number of the watch, which the service never reuses in the life of a state directory.
    pub watch: u64,
    /// The pid of the process. The kernel may have given it to another process since.
    pub pid: i32,
    /// The text that the client gave the watch.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tag: String,
    /// The name of the client that owned the watch.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub client: String,
    /// The user that owned the watch.
    pub uid: u32,
    /// Whether the service started the process.
    pub spawned: bool,
    /// How the process ended.
    pub outcome: Outcome,
    /// The resources that the process used. The kernel reports them for processes that the service
    /// has started, unless a crash of the service came between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// What the cgroup of the process reported, if the process was started with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<CgroupUsage>,
    /// When the watch began: milliseconds since 1970.
    pub began_ms: u64,
    /// When the service saw the end: milliseconds since 1970. After a crash of the service this may
    /// be late.
    pub ended_ms: u64,
    /// Whether the process ended after its timeout had sent it a signal.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub timed_out: bool,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The process called `exit` with this code (0 to 255).
    Exited(i32),
    /// A signal ended the process.
    Signaled {
        /// The number of the signal.
        signal: i32,
        /// Whether the kernel reports a core dump.
        core_dumped: bool,
    },
    /// The process ended, and its status is unknown.
    Unknown(Unknown),
}

/// Why a status is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unknown {
    /// The service is not the parent of the process. The kernel reports the status to the parent
    /// only, and to others once the parent has reaped it, from Linux 6.15 on: watch with `"until":
    /// "reaped"`.
    NotAChild,
    /// Another part of the service's process reaped it before its status could be read.
    ReapedElsewhere,
    /// The kernel kept no status, because `SIGCHLD` was ignored.
    SigchldIgnored,
    /// The service had no descriptor to read the status with.
    NoDescriptor,
    /// The process ended while the service was down, and the status is lost.
    ServiceDown,
    /// The process is a zombie: the process that inherited it when the service was killed has not
    /// reaped it for long.
    NotReaped,
    /// A reason that this version does not know.
    #[serde(other)]
    Other,
}

/// The resources that a process used, including those of descendants that were waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Usage {
    /// Processor time in user space, in microseconds.
    pub user_us: u64,
    /// Processor time in the kernel, in microseconds.
    pub system_us: u64,
    /// The largest resident set, in bytes.
    pub max_rss_bytes: u64,
}
