//! Ended jobs that died of a signal, until the cause is decided.
//!
//! A service manager, a scheduler or a terminal that ends this process sends its signal to all
//! processes of the run, and the signal may reach jobs first.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use exitring::{Exit, Outcome};

use crate::run::job::{Job, StartTime};
use crate::run::output_tail::AttemptTail;
use crate::run::report::record::EndCause;

/// How long after a job's end a request to end may still arrive that explains the job's end.
pub(crate) const DECISION_DELAY: Duration = Duration::from_millis(500);
/// The most jobs that wait for a decision. If there are more, the first is decided early.
const PENDING_MAX: usize = 4096;

#[derive(Default)]
pub(crate) struct PendingEnds(VecDeque<(Instant, PendingEnd)>);

pub(crate) struct PendingEnd {
    pub(crate) job: Job,
    pub(crate) start_time: StartTime,
    pub(crate) exit: Exit,
    pub(crate) cause: EndCause,
    /// The end of what it wrote, as far as something shows it.
    pub(crate) output: AttemptTail,
}

impl PendingEnds {
    pub(crate) fn add(&mut self, pending: PendingEnd) {
        self.0.push_back((Instant::now() + DECISION_DELAY, pending));
    }

    /// The time until the next decision.
    pub(crate) fn wait_timeout(&self) -> Option<Duration> {
        let (until, _) = self.0.front()?;
        Some(until.saturating_duration_since(Instant::now()))
    }

    /// Removes the first job whose delay is over; with `all`, the first job.
    pub(crate) fn pop(&mut self, all: bool) -> Option<PendingEnd> {
        let (until, _) = self.0.front()?;
        let due = all || self.0.len() > PENDING_MAX || *until <= Instant::now();
        due.then(|| self.0.pop_front().map(|(_, pending)| pending))?
    }
}

/// Whether a job died of a signal that ends whole groups, or exited with the code that a shell
/// derives from one.
pub(crate) fn died_of_shutdown_signal(exit: &Exit) -> bool {
    let signal = match exit.outcome() {
        Outcome::Signaled { signal, .. } => signal,
        Outcome::Exited(code) if code > 128 => code - 128,
        _ => return false,
    };
    matches!(
        signal,
        libc::SIGTERM
            | libc::SIGINT
            | libc::SIGHUP
            | libc::SIGQUIT
            | libc::SIGKILL
            | libc::SIGXCPU
            | libc::SIGPWR
            | libc::SIGABRT
    )
}
