//! The cases of a soak, and the expected status of each.

use exitring::{Exit, Outcome, Unknown};

/// What happens to a child and to its watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
    /// The child exits. It is owned, and a callback runs.
    Exit,
    /// A signal kills the child.
    Kill,
    /// The child is stopped, continued and killed.
    Stop,
    /// The child is adopted after it has ended.
    AdoptZombie,
    /// The child is watched, and the callback reaps it.
    Watch,
    /// The child is watched, and the soak reaps it at the same time.
    ReapWatched,
    /// The child is owned, and the soak reaps it at the same time.
    ReapOwned,
    /// A callback is cancelled, before or after the exit.
    Cancel,
    /// A callback panics.
    Panic,
    /// The handle is dropped at once.
    Drop,
    /// The exit is fetched from a queue.
    Queue,
    /// A callback is added after the exit.
    LateCallback,
    /// The child is killed at a deadline.
    Deadline,
}

/// The cases with their names in the results.
pub(super) const CASES: [(Case, &str); 13] = [
    (Case::Exit, "exits"),
    (Case::Kill, "killed"),
    (Case::Stop, "stopped, continued, killed"),
    (Case::AdoptZombie, "owned when ended already"),
    (Case::Watch, "watched, reaped by callback"),
    (Case::ReapWatched, "watched, reaped elsewhere"),
    (Case::ReapOwned, "owned, reaped by a thief"),
    (Case::Cancel, "callback cancelled"),
    (Case::Panic, "callback panics"),
    (Case::Drop, "handle dropped at once"),
    (Case::Queue, "fetched from a queue"),
    (Case::LateCallback, "callback after the exit"),
    (Case::Deadline, "ended by a deadline"),
];

pub(super) const SIGNALS: [i32; 5] = [
    libc::SIGKILL,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGUSR1,
    libc::SIGALRM,
];

/// The expected status of a child.
#[derive(Clone, Copy, Debug)]
pub(super) enum Expected {
    Code(i32),
    Signal(i32),
    /// The soak may have reaped the child first.
    CodeOrReaped(i32),
    ByDeadline,
}

impl Expected {
    pub(super) fn fits(self, exit: &Exit) -> bool {
        let signaled = |outcome| match outcome {
            Outcome::Signaled { signal, .. } => Some(signal),
            _ => None,
        };
        let reaped = exit.outcome() == Outcome::Unknown(Unknown::ReapedElsewhere);
        match self {
            Self::Code(code) => exit.outcome() == Outcome::Exited(code),
            Self::CodeOrReaped(code) => exit.outcome() == Outcome::Exited(code) || reaped,
            Self::Signal(signal) => signaled(exit.outcome()) == Some(signal),
            Self::ByDeadline => {
                let by = signaled(exit.outcome());
                exit.by_deadline() && matches!(by, Some(libc::SIGTERM | libc::SIGKILL))
            }
        }
    }
}
