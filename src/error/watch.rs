//! Errors of watching a process and of waiting for its exit.

use std::convert::Infallible;
use std::error::Error;
use std::{fmt, io};

use super::common::{Closed, InvalidPid, NoDescriptors, SystemError, impl_from, pidfd_denied};
use crate::Pid;

/// The error of [`Watcher::watch`](crate::Watcher::watch) and its variants.
#[derive(Debug)]
#[non_exhaustive]
pub enum WatchError {
    /// The number is not a process id.
    InvalidPid(InvalidPid),
    /// No process has this pid: it was reaped, or it never existed.
    NoSuchProcess {
        /// The pid.
        pid: Pid,
    },
    /// The number is the id of a thread that does not lead a process.
    Thread {
        /// The number.
        pid: Pid,
    },
    /// The descriptor is not a pidfd.
    NotAPidfd,
    /// The descriptor is a pidfd of a single thread (`PIDFD_THREAD`).
    ThreadPidfd,
    /// The kernel cannot report when a process is reaped.
    Unsupported,
    /// The process behind the pidfd was reaped, so its pid is no longer known.
    Reaped,
    /// No descriptor is free to identify the process, not even after the ring thread closed those
    /// of earlier registrations.
    NoDescriptors(NoDescriptors),
    /// The kernel is out of memory.
    OutOfMemory,
    /// This process may not open pidfds.
    PidfdDenied {
        /// `EPERM`, `EACCES` or `ENOSYS`; `EINVAL` if the kernel cannot wait for pidfds (Linux 5.3).
        errno: i32,
    },
    /// The limit on watched processes is reached.
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// The watcher no longer accepts calls.
    Closed(Closed),
    /// Another system call failed.
    System(SystemError),
}

impl WatchError {
    /// Whether a later attempt can succeed: the call ran out of something (descriptors, memory,
    /// watches) that other code may release.
    pub fn is_throttling(&self) -> bool {
        matches!(
            self,
            Self::NoDescriptors(_) | Self::OutOfMemory | Self::TooMany { .. }
        )
    }

    /// The error for a failed `pidfd_open(pid, 0)`.
    pub(crate) fn from_pidfd_open(pid: Pid, source: io::Error) -> Self {
        let errno = source.raw_os_error().unwrap_or(0);
        if let Some(none) = NoDescriptors::from_errno(errno) {
            return none.into();
        }
        match errno {
            libc::ESRCH => Self::NoSuchProcess { pid },
            // The pid is positive and there are no flags, so the only invalid thing left is a task
            // that leads no thread group (ENOENT since about Linux 6.15).
            libc::EINVAL | libc::ENOENT => Self::Thread { pid },
            libc::ENOMEM => Self::OutOfMemory,
            libc::EPERM | libc::EACCES | libc::ENOSYS => Self::PidfdDenied { errno },
            _ => SystemError {
                call: "pidfd_open",
                source,
            }
            .into(),
        }
    }
}

impl fmt::Display for WatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidPid(cause) => cause.fmt(f),
            Self::NoSuchProcess { pid } => write!(
                f,
                "no process has the pid {pid}: it was reaped, or never existed"
            ),
            Self::Thread { pid } => write!(
                f,
                "{pid} is the id of a thread, not of a process; watch its process"
            ),
            Self::NotAPidfd => {
                f.write_str("the descriptor is no pidfd; get one from pidfd_open or clone3")
            }
            Self::ThreadPidfd => f.write_str(
                "the descriptor is a pidfd of one thread; open one of its process, without \
                 PIDFD_THREAD",
            ),
            Self::Unsupported => f.write_str(
                "this kernel cannot report when a process is reaped; that needs Linux 6.9",
            ),
            Self::Reaped => f.write_str("the process behind the pidfd was already reaped"),
            Self::NoDescriptors(cause) => cause.fmt(f),
            Self::OutOfMemory => f.write_str("the kernel has no memory for a pidfd"),
            Self::PidfdDenied { errno } => pidfd_denied(f, *errno),
            Self::TooMany { limit } => write!(
                f,
                "{limit} processes are watched, which is the limit; raise it with \
                 Builder::max_watches"
            ),
            Self::Closed(cause) => cause.fmt(f),
            Self::System(cause) => cause.fmt(f),
        }
    }
}

impl Error for WatchError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::System(cause) => cause.source(),
            _ => None,
        }
    }
}

impl_from!(
    InvalidPid => WatchError,
    NoDescriptors => WatchError,
    Closed => WatchError,
);

impl From<SystemError> for WatchError {
    fn from(cause: SystemError) -> Self {
        Self::System(cause)
    }
}

impl From<Infallible> for WatchError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// The error of waiting for an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitError {
    /// The watcher ended before the process did.
    Closed(Closed),
    /// The wait could never end. The exit is delivered by a ring thread that is the calling thread
    /// (a waker, or a callback with `workers(0)`), or that waits for the callback from which the
    /// call is made. Add a callback instead.
    WouldDeadlock,
}

/// The message of every error about a wait that could never end.
pub(super) const WOULD_DEADLOCK: &str = "waiting here for an exit could never end: the ring thread \
     that delivers it is this thread, or waits for this callback";

impl fmt::Display for WaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(cause) => cause.fmt(f),
            Self::WouldDeadlock => write!(f, "{WOULD_DEADLOCK}; add a callback instead"),
        }
    }
}

impl Error for WaitError {}

impl_from!(Closed => WaitError);
