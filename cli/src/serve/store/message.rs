//! The messages to the writer.

use std::sync::Arc;

use exitring_protocol::{CgroupUsage, Code, Error, Outcome, Usage};
use tokio::sync::oneshot;

use crate::serve::watches::{LiveWatch, Scope, WatchInfo};

/// How a watched process ended.
pub(crate) struct ProcessExit {
    pub(crate) live: Arc<LiveWatch>,
    pub(crate) outcome: Outcome,
    pub(crate) usage: Option<Usage>,
    pub(crate) cgroup: Option<CgroupUsage>,
    pub(crate) ended_ms: u64,
}

impl ProcessExit {
    /// The exit of a process that has ended. Reads what its cgroup has counted.
    pub(crate) fn new(
        live: Arc<LiveWatch>,
        outcome: Outcome,
        usage: Option<Usage>,
        ended_ms: u64,
    ) -> Self {
        let cgroup = live.end_leaf();
        Self {
            live,
            outcome,
            usage,
            cgroup,
            ended_ms,
        }
    }
}

/// Where the writer sends the result of a request, after the commit.
pub(super) type Reply<T> = oneshot::Sender<Result<T, Error>>;

pub(super) enum Message {
    Begin(WatchInfo, Reply<()>),
    Forget(u64, Reply<bool>),
    /// When SIGTERM was sent to the process of a watch that has timed out.
    Terminated(u64, u64),
    Exit(ProcessExit),
    Ack(PendingAck),
    Stop,
}

/// Records to delete. The writer deletes a part of them in each transaction.
pub(super) struct PendingAck {
    pub(super) scope: Scope,
    pub(super) upto: u64,
    /// How many are deleted.
    pub(super) deleted: u64,
    pub(super) reply: Reply<u64>,
}

/// The answer to a request while the state cannot be written.
pub(super) fn refusal(cause: &str) -> Error {
    let message = format!(
        "the state cannot be written ({cause}), so new requests are refused; free space on its disk, or fix the cause"
    );
    Error::new(Code::Storage, message)
}
