//! Ending before all is done: why, how roughly, and with which exit code.

use std::time::{Duration, Instant};

use exitring::Child;

use crate::code;
use crate::failure::Failure;

/// A wrapper passes on what the terminal sent it and us alike, a service manager sends two signals in one go: so long after a
/// request to end, another is the same one.
const ONE_REQUEST: Duration = Duration::from_secs(1);

/// What is done about running jobs when nothing more is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Stop {
    /// They run to their end.
    Soon,
    /// They get SIGTERM, and SIGKILL after the grace.
    Now,
    /// They get SIGKILL. Those that may not be signalled are left.
    #[value(skip)]
    Kill,
    /// They are left, whatever they do.
    #[value(skip)]
    Leave,
}

pub(crate) struct Ending {
    stop: Option<Stop>,
    grace: Duration,
    /// When we were first asked to end.
    interrupted: Option<Instant>,
    /// The last request to end that counts, and what it came to.
    request: Option<(Instant, Stop)>,
    reader_gone: bool,
    failure: Option<u8>,
    /// Nothing more can be learned of what runs, or is waited for.
    abrupt: bool,
}

impl Ending {
    pub(crate) fn new(grace: Duration) -> Self {
        Self {
            stop: None,
            grace,
            interrupted: None,
            request: None,
            reader_gone: false,
            failure: None,
            abrupt: false,
        }
    }

    /// Whether that is rougher than before, so that running jobs have to be told.
    pub(crate) fn escalate(&mut self, stop: Stop) -> bool {
        let rougher = Some(stop) > self.stop;
        self.stop = self.stop.max(Some(stop));
        rougher && stop > Stop::Soon
    }

    /// Tells a running job, if it is to be told.
    pub(crate) fn tell(&self, child: &Child) {
        let grace = match self.stop {
            None | Some(Stop::Soon) => return,
            Some(Stop::Now) => self.grace,
            Some(Stop::Kill | Stop::Leave) => Duration::ZERO,
        };
        // If the watcher has ended, that shows elsewhere.
        let _ = child.deadline(Duration::ZERO, grace);
    }

    /// Whether running jobs have been told to end.
    pub(crate) fn has_told(&self) -> bool {
        self.stop > Some(Stop::Soon)
    }

    /// Whether nothing more is started.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.is_some()
    }

    /// We are asked to end. What is to be done about running jobs, unless that is the same request as the one before.
    pub(crate) fn request(&mut self, at_once: bool) -> Option<Stop> {
        let now = Instant::now();
        self.interrupted.get_or_insert(now);
        let stop = match self.request {
            None if at_once => Stop::Kill,
            None => Stop::Now,
            // It is another one: it asks for more.
            Some((_, Stop::Now)) if at_once => Stop::Kill,
            Some((last, _)) if now.saturating_duration_since(last) < ONE_REQUEST => return None,
            Some((_, Stop::Soon | Stop::Now)) => Stop::Kill,
            Some((_, Stop::Kill | Stop::Leave)) => Stop::Leave,
        };
        self.request = Some((now, stop));
        Some(stop)
    }

    /// Whether we are asked to end.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.interrupted.is_some()
    }

    /// Whether jobs are killed.
    pub(crate) fn kills(&self) -> bool {
        self.stop >= Some(Stop::Kill)
    }

    pub(crate) fn grace(&self) -> Duration {
        self.grace
    }

    /// What still runs is left: nothing more is waited for.
    pub(crate) fn leave_all(&mut self) {
        self.abrupt = true;
    }

    /// Until when those who read what we write are waited for, if not for ever: when we are asked to end they have the
    /// grace that jobs have, and nothing after a second time.
    pub(crate) fn readers_until(&self) -> Option<Instant> {
        let asked = self.interrupted?;
        match self.stop {
            Some(Stop::Kill | Stop::Leave) => Some(asked),
            // Later than the clock goes is never.
            _ => asked.checked_add(self.grace),
        }
    }

    /// Nobody reads standard output any more.
    pub(crate) fn reader_gone(&mut self) {
        self.reader_gone = true;
    }

    /// The first failure is the one that counts: it is given back to be said.
    pub(crate) fn fail(&mut self, failure: Failure) -> Option<String> {
        if self.failure.is_some() {
            return None;
        }
        self.failure = Some(failure.code());
        Some(failure.to_lines())
    }

    /// The ends of jobs cannot be learned any more. As `fail`.
    pub(crate) fn lost(&mut self, failure: Failure) -> Option<String> {
        self.abrupt = true;
        self.fail(failure)
    }

    pub(crate) fn is_abrupt(&self) -> bool {
        self.abrupt
    }

    pub(crate) fn code(&self, some_failed: bool) -> u8 {
        match (self.is_interrupted(), self.failure, self.reader_gone) {
            (true, ..) => code::INTERRUPTED,
            (_, Some(code), _) => code,
            (_, _, true) => code::BROKEN_PIPE,
            _ if some_failed => code::SOME_FAILED,
            _ => code::OK,
        }
    }
}
