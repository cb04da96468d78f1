//! How a process ended.

use std::error::Error;
use std::fmt;
use std::num::NonZeroU32;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::{CgroupReport, Pid};

/// The exit of one process: its pid, outcome, resource usage, and when the watcher saw it.
///
/// Two values are equal if they describe the same exit, regardless of how they were delivered.
#[derive(Clone, Debug)]
pub struct Exit {
    pub(crate) pid: Pid,
    pub(crate) outcome: Outcome,
    pub(crate) usage: Option<Usage>,
    pub(crate) seen_at: Instant,
    pub(crate) by_deadline: bool,
    /// Nanoseconds from `seen_at` to the queue. Four bytes, because every watch stores an `Exit`.
    pub(crate) queued_after_ns: Option<NonZeroU32>,
    pub(crate) cgroup: Option<Arc<CgroupReport>>,
}

impl PartialEq for Exit {
    /// `queued_at` describes the delivery, not the exit, and is not compared.
    fn eq(&self, other: &Self) -> bool {
        let all = |exit: &Self| {
            let Self {
                pid,
                outcome,
                usage,
                seen_at,
                by_deadline,
                queued_after_ns: _,
                ref cgroup,
            } = *exit;
            (pid, outcome, usage, seen_at, by_deadline, cgroup.clone())
        };
        all(self) == all(other)
    }
}

impl Eq for Exit {}

impl Exit {
    /// The pid of the process.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// How the process ended, or why that is unknown.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// The outcome as the standard library's type; `None` for [`Outcome::Unknown`].
    pub fn status(&self) -> Option<ExitStatus> {
        self.outcome.status()
    }

    /// Whether the process exited with code 0. `false` if the outcome is unknown.
    pub fn success(&self) -> bool {
        self.outcome == Outcome::Exited(0)
    }

    /// The resources that the process used. The kernel reports them for children of this process
    /// that no other code has reaped; `None` otherwise, and if [`Builder::usage`](crate::Builder::usage)
    /// is off.
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// When the watcher received the exit from the kernel (`CLOCK_MONOTONIC`). Exits received in
    /// one wake-up share an instant.
    pub fn seen_at(&self) -> Instant {
        self.seen_at
    }

    /// When the exit entered the queue to the workers. The time from here to the callback was
    /// spent waiting for a worker, and if the worker reaped the child, also with that.
    ///
    /// `Some` in callbacks that run on workers; `None` elsewhere, and with
    /// [`workers(0)`](crate::Builder::workers). The distance from [`seen_at`](Self::seen_at)
    /// saturates at four seconds.
    pub fn queued_at(&self) -> Option<Instant> {
        let after = Duration::from_nanos(self.queued_after_ns?.get().into());
        Some(self.seen_at + after)
    }

    pub(crate) fn of_orphan(
        pid: Pid,
        outcome: Outcome,
        usage: Option<Usage>,
        seen_at: Instant,
    ) -> Self {
        Self {
            pid,
            outcome,
            usage,
            seen_at,
            by_deadline: false,
            queued_after_ns: None,
            cgroup: None,
        }
    }

    /// What was in the cgroup of the child when it had ended, and what the cgroup had counted.
    /// `None` for a process that was not started in a cgroup of its own
    /// ([`Command::cgroup`](crate::Command::cgroup)).
    pub fn cgroup(&self) -> Option<&CgroupReport> {
        self.cgroup.as_deref()
    }

    /// A copy for a callback, with the time at which it was queued.
    pub(crate) fn queued(&self, at: Instant) -> Self {
        let after = at.saturating_duration_since(self.seen_at).as_nanos();
        let after = u32::try_from(after).unwrap_or(u32::MAX).max(1);
        Self {
            queued_after_ns: NonZeroU32::new(after),
            ..self.clone()
        }
    }

    /// Whether the process ended after its [deadline](crate::Child::deadline), which had sent it a
    /// signal, or had tried to ([`Child::deadline_error`](crate::Child::deadline_error)).
    pub fn by_deadline(&self) -> bool {
        self.by_deadline
    }
}

/// How a process ended. `Display` prints what [`ExitStatus`] prints, such as `exit status: 3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// The process called `exit` with this code (0 to 255).
    Exited(i32),
    /// A signal terminated the process.
    Signaled {
        /// The signal's number.
        signal: i32,
        /// Whether the kernel wrote a core dump.
        core_dumped: bool,
    },
    /// The process ended, but its status is unknown.
    Unknown(Unknown),
}

impl Outcome {
    /// Decodes a wait status of `waitpid(2)` or `PIDFD_GET_INFO`.
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

    /// The outcome as the standard library's type; `None` for [`Outcome::Unknown`].
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

/// Why the status of an ended process is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unknown {
    /// The process was not a child of this process. The kernel reports a status to the parent
    /// only; from Linux 6.15 on also to others, once the parent has reaped the process.
    NotAChild,
    /// Other code in this program reaped the process before the watcher read its status: a
    /// `waitpid(-1)` loop, or a wait for this pid. From Linux 6.15 on the status is still
    /// reported, except for a [`Child`](crate::Child), which only the watcher may reap.
    ReapedElsewhere,
    /// `SIGCHLD` is ignored (or `SA_NOCLDWAIT` is set), so the kernel reaped the process itself
    /// and kept no status. Set the signal's action to the default. From Linux 6.15 on the status
    /// is still reported, except for a [`Child`](crate::Child).
    SigchldIgnored,
    /// Reading the status takes one descriptor, and for half a second none was free for any exit
    /// that needed one. Owned children need none. The number is the errno: `EMFILE` (raise
    /// `RLIMIT_NOFILE`), `ENFILE` (raise `fs.file-max`), `ENOMEM`, or that of a seccomp filter which
    /// denies `pidfd_open(2)`.
    NoDescriptor(i32),
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAChild => {
                "not a child of this process: the kernel reports its status to its parent only"
            }
            Self::ReapedElsewhere => {
                "reaped by another wait in this program before its status could be read"
            }
            Self::SigchldIgnored => {
                "SIGCHLD is ignored, so the kernel kept no status; set its action to the default"
            }
            Self::NoDescriptor(errno) => {
                let remedy = match *errno {
                    libc::EMFILE => "raise RLIMIT_NOFILE",
                    libc::ENFILE => "raise fs.file-max",
                    libc::ENOMEM => "the kernel has too little memory",
                    _ => "the kernel denies pidfd_open, as a seccomp filter does",
                };
                return write!(
                    f,
                    "no descriptor to read the status (errno {errno}); {remedy}"
                );
            }
        })
    }
}

impl Error for Unknown {}

/// The resources that a process used, including those of descendants that it waited for
/// (`getrusage(2)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    pub(crate) user: Duration,
    pub(crate) system: Duration,
    pub(crate) max_rss_kib: u64,
}

impl Usage {
    /// CPU time in user space.
    pub fn user(&self) -> Duration {
        self.user
    }

    /// CPU time in the kernel.
    pub fn system(&self) -> Duration {
        self.system
    }

    /// The maximum resident set size, in bytes.
    pub fn max_rss_bytes(&self) -> u64 {
        self.max_rss_kib * 1024
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_converts_back_to_the_wait_status_it_came_from() {
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
    fn an_outcome_is_displayed_as_the_standard_library_displays_it() {
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
