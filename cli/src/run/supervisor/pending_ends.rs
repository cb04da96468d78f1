//! Jobs that have died of a signal, before it is judged whether that was their own fault: a service manager, a scheduler or a
//! terminal that ends us sends its signal to every process of ours, and it may reach jobs first.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use exitring::{Exit, Outcome};

use crate::run::job::Job;
use crate::run::report::record::Cause;
use crate::run::schedule::event_queue::When;

/// So long after a job's end a request that we end may come, and be what ended it.
pub(crate) const HOLD: Duration = Duration::from_millis(500);
/// Jobs that wait for it. Of more, the first is judged sooner.
const HELD_MAX: usize = 4096;

#[derive(Default)]
pub(crate) struct HeldJobs(VecDeque<(Instant, Held)>);

pub(crate) struct Held {
    pub(crate) job: Job,
    pub(crate) when: When,
    pub(crate) exit: Exit,
    pub(crate) cause: Cause,
}

impl HeldJobs {
    pub(crate) fn add(&mut self, held: Held) {
        self.0.push_back((Instant::now() + HOLD, held));
    }

    /// How long until one is to be judged.
    pub(crate) fn patience(&self) -> Option<Duration> {
        let (until, _) = self.0.front()?;
        Some(until.saturating_duration_since(Instant::now()))
    }

    /// The next one whose time is over; `all`: the next one.
    pub(crate) fn next(&mut self, all: bool) -> Option<Held> {
        let (until, _) = self.0.front()?;
        let due = all || self.0.len() > HELD_MAX || *until <= Instant::now();
        due.then(|| self.0.pop_front().map(|(_, held)| held))?
    }
}

/// Whether it died of a signal that is sent to whole groups to end them, or exited with the code that a shell makes of one.
pub(crate) fn died_of_signal(exit: &Exit) -> bool {
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
