//! The heartbeat of a worker.

use serde::{Deserialize, Serialize};

/// What a worker publishes every few seconds. The server stores the last one of each worker.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Heartbeat {
    pub(crate) worker: String,
    pub(crate) host: String,
    pub(crate) pid: u32,
    pub(crate) version: String,
    /// As many jobs run at a time.
    pub(crate) capacity: usize,
    /// Jobs that it has taken and that have not ended.
    pub(crate) jobs: usize,
    /// Results that wait for the server.
    pub(crate) waiting: usize,
    /// Jobs that it has done since it started.
    pub(crate) done: u64,
    pub(crate) failed: u64,
    /// How often it will publish.
    pub(crate) every_seconds: f64,
    /// It has ended. A worker that was killed does not say so.
    pub(crate) ended: bool,
}
