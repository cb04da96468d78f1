//! What the view shows at one moment.

use std::collections::VecDeque;
use std::time::Duration;

use crate::run::report::progress::ProgressCounts;

/// A job that is running.
#[derive(Debug)]
pub(crate) struct RunningRow {
    pub(crate) job: u64,
    pub(crate) attempt: u32,
    pub(crate) since: Duration,
    /// On one line.
    pub(crate) command: String,
    /// The last line that it wrote; empty if there is none.
    pub(crate) last_line: String,
}

/// A job that has failed.
#[derive(Debug)]
pub(crate) struct FailedRow {
    pub(crate) job: u64,
    pub(crate) result: String,
    pub(crate) command: String,
}

#[derive(Debug)]
pub(crate) struct Snapshot<'a> {
    pub(crate) elapsed: Duration,
    pub(crate) counts: ProgressCounts,
    /// The longest running first, as many as fit at the most.
    pub(crate) running: Vec<RunningRow>,
    /// The last of those that failed, the oldest first.
    pub(crate) failed: &'a VecDeque<FailedRow>,
}
