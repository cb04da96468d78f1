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
    /// A command with random attributes is started.
    Command,
    /// The same by a future.
    CommandAsync,
    /// A command with random attributes starts a shell, which checks them.
    Checked,
    /// The output of a child is read, up to a limit.
    Output,
    /// A child and its descendants are killed at a deadline.
    Tree,
    /// A child leaves a process in its cgroup, which is killed.
    Leftover,
    /// A future is dropped while it starts a command.
    DroppedFuture,
    /// A command cannot be started.
    Refused,
}

impl Case {
    /// Whether the child executes a program that a command starts. Other children are forks.
    pub(super) fn has_command(self) -> bool {
        match self {
            Self::Exit
            | Self::Kill
            | Self::Stop
            | Self::AdoptZombie
            | Self::Watch
            | Self::ReapWatched
            | Self::ReapOwned
            | Self::Cancel
            | Self::Panic
            | Self::Drop
            | Self::Queue
            | Self::LateCallback
            | Self::Deadline => false,
            Self::Command
            | Self::CommandAsync
            | Self::Checked
            | Self::Output
            | Self::Tree
            | Self::Leftover
            | Self::DroppedFuture
            | Self::Refused => true,
        }
    }
}

/// The cases with their names in the results.
pub(super) const CASES: [(Case, &str); 21] = [
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
    (Case::Command, "command with attributes"),
    (Case::CommandAsync, "command started by a future"),
    (Case::Checked, "attributes checked by a shell"),
    (Case::Output, "output read"),
    (Case::Tree, "group ended by a deadline"),
    (Case::Leftover, "process left in a cgroup"),
    (Case::DroppedFuture, "future dropped"),
    (Case::Refused, "command refused"),
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
    /// A program that a command started, with the number of processes that it leaves in its cgroup.
    /// `None`: it has no cgroup.
    Program {
        code: i32,
        left: Option<usize>,
    },
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
            Self::Program { code, left } => {
                let report = exit.cgroup().map(exitring::CgroupReport::leftover_count);
                exit.outcome() == Outcome::Exited(code) && report == left
            }
            Self::ByDeadline => {
                let by = signaled(exit.outcome());
                exit.by_deadline() && matches!(by, Some(libc::SIGTERM | libc::SIGKILL))
            }
        }
    }
}
