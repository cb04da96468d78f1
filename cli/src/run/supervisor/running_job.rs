//! The state of a running job.

use std::time::{Duration, Instant};

use exitring::{Child, Exit};

use super::shutdown::Shutdown;
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
    /// When the job was first sent a signal to end it with the run, or to put it back.
    pub(super) ended_by_run: Option<Instant>,
}

impl RunningJob {
    /// Ends the job with the run, if `shutdown` says so.
    pub(super) fn end_with_run(&mut self, shutdown: &Shutdown) {
        if shutdown.signal_job(&self.child) {
            self.ended_by_run.get_or_insert_with(Instant::now);
        }
    }

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

/// Whether the timeout ended a job that a deadline has ended: it has expired before the job's end,
/// and before the run sent the job a signal for another reason (`ended_by_run`). All times begin at
/// the start of the job.
pub(super) fn has_timed_out(
    timeout: Option<Duration>,
    ended: Duration,
    ended_by_run: Option<Duration>,
) -> bool {
    timeout.is_some_and(|timeout| {
        ended >= timeout && ended_by_run.is_none_or(|signalled| signalled >= timeout)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_the_run_ended_in_time_has_not_timed_out() {
        let timed_out = |ended: u64, ended_by_run: Option<u64>| {
            let ended_by_run = ended_by_run.map(Duration::from_secs);
            has_timed_out(
                Some(Duration::from_secs(5)),
                Duration::from_secs(ended),
                ended_by_run,
            )
        };
        assert!(timed_out(5, None));
        assert!(!timed_out(4, None));
        // It took a while to end.
        assert!(!timed_out(6, Some(4)));
        // It was ending already.
        assert!(timed_out(6, Some(5)));
        assert!(!has_timed_out(None, Duration::MAX, None));
    }
}
