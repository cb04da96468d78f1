//! What may happen to a child in a soak, and how it may then end.

use exitring::{Exit, Outcome, Unknown};

/// What is done to a child, and by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// It exits, and its owner is called back.
    Exit,
    /// It is sent a signal that ends it.
    Kill,
    /// It is stopped, goes on, and is killed.
    Stop,
    /// It is owned only when it has ended.
    Late,
    /// It is watched, and the callback reaps it.
    Watch,
    /// It is watched, and reaped elsewhere at the same time.
    ReapElsewhere,
    /// It is owned, and reaped by a thief all the same.
    Steal,
    /// One of its callbacks is cancelled, sooner or later.
    Cancel,
    /// One of its callbacks panics.
    Panic,
    /// Its handle is dropped at once.
    Drop,
    /// Its exit is fetched from a queue.
    Pull,
    /// It is waited for, and gets a callback afterwards.
    LateCallback,
    /// It has a deadline.
    Deadline,
}

pub(super) const ACTS: [(Act, &str); 13] = [
    (Act::Exit, "exits"),
    (Act::Kill, "killed"),
    (Act::Stop, "stopped, continued, killed"),
    (Act::Late, "owned when ended already"),
    (Act::Watch, "watched, reaped by callback"),
    (Act::ReapElsewhere, "watched, reaped elsewhere"),
    (Act::Steal, "owned, reaped by a thief"),
    (Act::Cancel, "callback cancelled"),
    (Act::Panic, "callback panics"),
    (Act::Drop, "handle dropped at once"),
    (Act::Pull, "fetched from a queue"),
    (Act::LateCallback, "callback after the exit"),
    (Act::Deadline, "ended by a deadline"),
];

pub(super) const SIGNALS: [i32; 5] = [
    libc::SIGKILL,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGUSR1,
    libc::SIGALRM,
];

/// How a child may end.
#[derive(Clone, Copy, Debug)]
pub(super) enum Expected {
    Code(i32),
    Signal(i32),
    /// Somebody else may have been first.
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
