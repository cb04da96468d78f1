//! The state of a running job.

use std::time::Instant;

use exitring::{Child, Exit};

use crate::run::job::{Job, StartTime};

/// A job that has ended and whose pipes are still open.
pub(crate) struct DrainingJob {
    pub(super) until: Instant,
    pub(super) job: u64,
    pub(super) attempt: u32,
}

/// A job that runs, or whose group or output has not ended.
pub(crate) struct RunningJob {
    pub(super) job: Job,
    pub(super) start_time: StartTime,
    pub(super) child: Child,
    pub(super) exit: Option<Exit>,
    pub(super) in_grace: bool,
    pub(super) was_in_grace: bool,
    pub(super) check: CheckState,
    /// When the job is reported as slow, if it still runs then.
    pub(super) slow_due: Option<Instant>,
}

impl RunningJob {
    /// Whether there is a process that can be signalled.
    pub(super) fn can_be_signalled(&self) -> bool {
        self.exit.is_none() || self.in_grace
    }
}

/// The results of the checks of a running job.
#[derive(Debug, Default)]
pub(crate) struct CheckState {
    /// The signal that has stopped the job, and the time of the first check that found this.
    pub(super) stopped: Option<(i32, Instant)>,
    pub(super) reported: bool,
    /// The terminal could not be granted to the job.
    pub(super) terminal_refused: bool,
    pub(super) denied_reported: bool,
    /// The job is being ended because this signal had stopped it.
    pub(super) ended_for_stop: Option<i32>,
    /// The job is being ended, and runs again later.
    pub(super) put_back: bool,
}
