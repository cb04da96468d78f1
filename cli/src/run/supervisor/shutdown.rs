//! The early end of a run: its reason, its severity, and the exit code.

use std::time::{Duration, Instant};

use exitring::Child;

use crate::code;
use crate::failure::Failure;

/// A request to end within this time after another one counts as the same request. A wrapper
/// forwards the signal that the terminal also sent to this process, and a service manager sends two
/// signals at a time.
pub(crate) const REQUEST_WINDOW: Duration = Duration::from_secs(1);

/// What is done about running jobs when no more jobs are started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Stop {
    /// They run to their end.
    Soon,
    /// They get SIGTERM, and SIGKILL after the grace.
    Now,
    /// They get SIGKILL. Jobs that may not be signalled are left running.
    #[value(skip)]
    Kill,
    /// They are left running in any case.
    #[value(skip)]
    Leave,
}

pub(crate) struct Shutdown {
    stop: Option<Stop>,
    grace: Duration,
    /// The time of the first request to end, and its signal.
    interrupted: Option<(Instant, i32)>,
    /// The last request to end that counted, and its effect.
    request: Option<(Instant, Stop)>,
    stdout_closed: bool,
    /// As many jobs have succeeded as were asked for.
    goal_reached: bool,
    failure: Option<u8>,
    /// The ends of running jobs cannot be learned any more, or are no longer waited for.
    abandoned: bool,
}

impl Shutdown {
    pub(crate) fn new(grace: Duration) -> Self {
        Self {
            stop: None,
            grace,
            interrupted: None,
            request: None,
            stdout_closed: false,
            goal_reached: false,
            failure: None,
            abandoned: false,
        }
    }

    /// Raises the severity. Returns whether running jobs must be signalled.
    pub(crate) fn escalate(&mut self, stop: Stop) -> bool {
        let escalates = Some(stop) > self.stop;
        self.stop = self.stop.max(Some(stop));
        escalates && stop > Stop::Soon
    }

    /// Ends a running job, if the severity requires it. Returns whether it does.
    pub(crate) fn signal_job(&self, child: &Child) -> bool {
        let grace = match self.stop {
            None | Some(Stop::Soon) => return false,
            Some(Stop::Now) => self.grace,
            Some(Stop::Kill | Stop::Leave) => Duration::ZERO,
        };
        // An error of the watcher is reported elsewhere.
        let _ = child.deadline(Duration::ZERO, grace);
        true
    }

    /// Whether running jobs were signalled.
    pub(crate) fn has_signalled_jobs(&self) -> bool {
        self.stop > Some(Stop::Soon)
    }

    /// Whether no more jobs are started.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.is_some()
    }

    /// Handles a request to end. Returns what to do about running jobs, unless it belongs to the
    /// request before.
    pub(crate) fn request(&mut self, signal: i32, at_once: bool) -> Option<Stop> {
        let now = Instant::now();
        self.interrupted.get_or_insert((now, signal));
        let stop = match self.request {
            None if at_once => Stop::Kill,
            None => Stop::Now,
            // A different signal, which asks for more.
            Some((_, Stop::Now)) if at_once => Stop::Kill,
            Some((last, _)) if now.saturating_duration_since(last) < REQUEST_WINDOW => return None,
            Some((_, Stop::Soon | Stop::Now)) => Stop::Kill,
            Some((_, Stop::Kill | Stop::Leave)) => Stop::Leave,
        };
        self.request = Some((now, stop));
        Some(stop)
    }

    /// When the last request to end came that counted.
    #[cfg(feature = "queue")]
    pub(crate) fn last_request(&self) -> Option<Instant> {
        self.request.map(|(at, _)| at)
    }

    /// Whether there was a request to end.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.interrupted.is_some()
    }

    /// The signal of the first request to end.
    pub(crate) fn interrupted_by(&self) -> Option<i32> {
        self.interrupted.map(|(_, signal)| signal)
    }

    /// Whether jobs are killed.
    pub(crate) fn is_killing(&self) -> bool {
        self.stop >= Some(Stop::Kill)
    }

    pub(crate) fn grace(&self) -> Duration {
        self.grace
    }

    /// Stops waiting for running jobs.
    pub(crate) fn abandon(&mut self) {
        self.abandoned = true;
    }

    /// Until when the readers of this process's output are waited for; `None` is forever. After a
    /// request to end they have the same grace as jobs, and no time after a second request.
    pub(crate) fn output_deadline(&self) -> Option<Instant> {
        let (asked, _) = self.interrupted?;
        match self.stop {
            Some(Stop::Kill | Stop::Leave) => Some(asked),
            // A time that the clock cannot represent is never reached.
            _ => asked.checked_add(self.grace),
        }
    }

    /// Records that standard output has no reader any more.
    pub(crate) fn set_stdout_closed(&mut self) {
        self.stdout_closed = true;
    }

    /// Records that as many jobs have succeeded as were asked for. Failed jobs do not count then.
    pub(crate) fn set_goal_reached(&mut self) {
        self.goal_reached = true;
    }

    /// Records a failure. The first one counts, and is returned as a message.
    pub(crate) fn fail(&mut self, failure: Failure) -> Option<String> {
        if self.failure.is_some() {
            return None;
        }
        self.failure = Some(failure.code());
        Some(failure.to_lines())
    }

    /// Records that the ends of jobs cannot be learned any more. Returns as `fail` does.
    pub(crate) fn watcher_failed(&mut self, failure: Failure) -> Option<String> {
        self.abandoned = true;
        self.fail(failure)
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.abandoned
    }

    pub(crate) fn exit_code(&self, some_failed: bool) -> u8 {
        match (self.is_interrupted(), self.failure, self.stdout_closed) {
            (true, ..) => code::INTERRUPTED,
            (_, Some(code), _) => code,
            (_, _, true) => code::BROKEN_PIPE,
            _ if some_failed && !self.goal_reached => code::SOME_FAILED,
            _ => code::OK,
        }
    }
}
