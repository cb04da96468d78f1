//! How a process ended.

use std::fmt;
use std::num::NonZeroU32;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use crate::Pid;

/// The end of one process: which, how, at what cost, and when it was seen.
///
/// Two are equal if they tell of the same end, wherever they come from.
#[derive(Clone, Debug)]
pub struct Exit {
    pub(crate) pid: Pid,
    pub(crate) outcome: Outcome,
    pub(crate) usage: Option<Usage>,
    pub(crate) seen_at: Instant,
    pub(crate) by_deadline: bool,
    /// Nanoseconds from `seen_at` to the queue. So little because each watch has one of these.
    pub(crate) queued_after_ns: Option<NonZeroU32>,
}

impl PartialEq for Exit {
    /// `queued_at` is of the way, not of the end.
    fn eq(&self, other: &Self) -> bool {
        let all = |exit: &Self| {
            let Self {
                pid,
                outcome,
                usage,
                seen_at,
                by_deadline,
                queued_after_ns: _,
            } = *exit;
            (pid, outcome, usage, seen_at, by_deadline)
        };
        all(self) == all(other)
    }
}

impl Eq for Exit {}

impl Exit {
    /// The process that ended.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// How it ended, or why that cannot be told.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// The same as the standard library has it; `None` for [`Outcome::Unknown`].
    pub fn status(&self) -> Option<ExitStatus> {
        self.outcome.status()
    }

    /// Whether it is known to have exited with code 0.
    pub fn success(&self) -> bool {
        self.outcome == Outcome::Exited(0)
    }

    /// What it used, if the kernel told: it does so for children of this
    /// process that nobody else had reaped.
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// When the watcher took the exit from the kernel (`CLOCK_MONOTONIC`; the exits
    /// that one wake-up brought share an instant).
    pub fn seen_at(&self) -> Instant {
        self.seen_at
    }

    /// When it was put in the queue for the workers: what lies between this and the callback is time spent waiting for
    /// a worker. Known in callbacks, unless they run on the ring thread
    /// ([`workers(0)`](crate::Builder::workers)); `None` elsewhere. An exit that waited for room in the
    /// queue for more than four seconds has it as four.
    pub fn queued_at(&self) -> Option<Instant> {
        let after = Duration::from_nanos(self.queued_after_ns?.get().into());
        Some(self.seen_at + after)
    }

    /// The same, on its way to a callback.
    pub(crate) fn queued(&self, at: Instant) -> Self {
        let after = at.saturating_duration_since(self.seen_at).as_nanos();
        let after = u32::try_from(after).unwrap_or(u32::MAX).max(1);
        Self {
            queued_after_ns: NonZeroU32::new(after),
            ..self.clone()
        }
    }

    /// Whether it ended after its [deadline](crate::Child::deadline) had sent it a signal.
    pub fn by_deadline(&self) -> bool {
        self.by_deadline
    }
}

/// How a process ended. Displayed as the standard library does an [`ExitStatus`]: `exit status: 3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// It called `exit` with this code (0 to 255).
    Exited(i32),
    /// A signal ended it.
    Signaled {
        /// The signal's number.
        signal: i32,
        /// Whether the kernel says that it dumped core.
        core_dumped: bool,
    },
    /// It ended, and the status cannot be told.
    Unknown(Unknown),
}

impl Outcome {
    /// The outcome in a wait status, as `waitpid(2)` and `PIDFD_GET_INFO` give it.
    pub(crate) fn from_wait_status(raw: i32) -> Self {
        let status = ExitStatus::from_raw(raw);
        match status.signal() {
            Some(signal) => Self::Signaled {
                signal,
                core_dumped: status.core_dumped(),
            },
            None => Self::Exited((raw >> 8) & 0xff),
        }
    }

    /// The same as the standard library has it; `None` for [`Outcome::Unknown`].
    pub fn status(self) -> Option<ExitStatus> {
        match self {
            Self::Exited(code) => Some(ExitStatus::from_raw((code & 0xff) << 8)),
            Self::Signaled {
                signal,
                core_dumped,
            } => Some(ExitStatus::from_raw(
                signal | if core_dumped { 0x80 } else { 0 },
            )),
            Self::Unknown(_) => None,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(why) => write!(f, "unknown status: {why}"),
            known => match known.status() {
                Some(status) => status.fmt(f),
                None => Ok(()),
            },
        }
    }
}

/// Why the status of a process that ended cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Unknown {
    /// The process was not a child of this one. The kernel tells a status to the
    /// parent only; to others from Linux 6.15 on, once the parent reaped it.
    #[error("not a child of this process: the kernel tells its status to its parent only")]
    NotAChild,
    /// Something else in this program reaped it before the watcher could look:
    /// a `waitpid(-1)` loop, or a wait for this very pid. (From Linux 6.15 on the
    /// status is told all the same, except of a [`Child`](crate::Child), which nobody else is to reap.)
    #[error("reaped by another wait in this program before its status could be read")]
    ReapedElsewhere,
    /// `SIGCHLD` is ignored (or `SA_NOCLDWAIT` set), so the kernel reaped it
    /// itself and kept no status. Set the signal's action to the default. (From Linux
    /// 6.15 on the status is told all the same, except of a [`Child`](crate::Child).)
    #[error("SIGCHLD is ignored, so the kernel kept no status; set its action to the default")]
    SigchldIgnored,
    /// The one descriptor that reading the status takes could not be had: for half a second there was none for any exit that
    /// needed one. Children of the watcher's own need none. The number is the errno: `EMFILE`
    /// (raise `RLIMIT_NOFILE`), `ENFILE` (raise `fs.file-max`) or `ENOMEM`.
    #[error("no descriptor to be had for reading the status (errno {0}); raise RLIMIT_NOFILE")]
    NoDescriptor(i32),
}

/// What a process used, its waited-for descendants included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    pub(crate) user: Duration,
    pub(crate) system: Duration,
    pub(crate) max_rss_kib: u64,
}

impl Usage {
    /// Processor time in user space.
    pub fn user(&self) -> Duration {
        self.user
    }

    /// Processor time in the kernel.
    pub fn system(&self) -> Duration {
        self.system
    }

    /// The largest resident set, in bytes.
    pub fn max_rss_bytes(&self) -> u64 {
        self.max_rss_kib * 1024
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_status_and_its_outcome_say_the_same() {
        for code in 0..=255 {
            let raw = code << 8;
            let outcome = Outcome::from_wait_status(raw);
            assert_eq!(outcome, Outcome::Exited(code));
            assert_eq!(outcome.status(), Some(ExitStatus::from_raw(raw)));
        }
        for signal in 1..=64 {
            for core_dumped in [false, true] {
                let raw = signal | if core_dumped { 0x80 } else { 0 };
                let outcome = Outcome::from_wait_status(raw);
                let expected = Outcome::Signaled {
                    signal,
                    core_dumped,
                };
                assert_eq!(outcome, expected);
                assert_eq!(outcome.status(), Some(ExitStatus::from_raw(raw)));
            }
        }
        assert_eq!(Outcome::Unknown(Unknown::NotAChild).status(), None);
    }

    #[test]
    fn an_outcome_is_displayed_as_the_standard_library_does() {
        for raw in [0, 3 << 8, libc::SIGTERM, libc::SIGSEGV | 0x80] {
            let outcome = Outcome::from_wait_status(raw);
            assert_eq!(outcome.to_string(), ExitStatus::from_raw(raw).to_string());
        }
        let unknown = Outcome::Unknown(Unknown::NotAChild).to_string();
        assert!(
            unknown.contains(&Unknown::NotAChild.to_string()),
            "{unknown}"
        );
    }
}
