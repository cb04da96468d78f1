//! Errors of building a watcher.

use std::error::Error;
use std::{ffi, fmt, io};

use super::common::{NoDescriptors, SystemError, errno_name, impl_from, pidfd_denied};

/// The error of [`Builder::build`](crate::Builder::build).
#[derive(Debug)]
#[non_exhaustive]
pub enum BuildError {
    /// The value of an option is out of range.
    Option {
        /// The builder method.
        option: &'static str,
        /// The rejected value.
        value: usize,
        /// The smallest permitted value.
        min: usize,
        /// The largest permitted value.
        max: usize,
    },
    /// The environment variable that selects the backend names no backend.
    Variable {
        /// The name of the variable.
        variable: &'static str,
        /// Its value.
        value: ffi::OsString,
    },
    /// This process may not use io_uring.
    IoUringDenied {
        /// `EPERM`, `EACCES` or `ENOSYS`, or the error of a poll that the ring refuses.
        errno: i32,
        /// What to change.
        remedy: &'static str,
    },
    /// The io_uring of this kernel is too old.
    IoUringTooOld {
        /// The first missing feature that was found.
        missing: &'static str,
    },
    /// This process may not open pidfds.
    PidfdDenied {
        /// `EPERM`, `EACCES` or `ENOSYS`; `EINVAL` if the kernel cannot wait for pidfds (Linux 5.3).
        errno: i32,
    },
    /// No descriptor is free for the ring.
    NoDescriptors(NoDescriptors),
    /// There is not enough memory for the ring (before Linux 5.12 the ring counts against
    /// `RLIMIT_MEMLOCK`) or for a queue of the requested capacity.
    OutOfMemory,
    /// A thread could not be started.
    Thread(io::Error),
    /// A queue of orphans was requested of a watcher that reaps none.
    NoSubreaper,
    /// Another system call failed.
    System(SystemError),
}

impl BuildError {
    /// The error for a failed `eventfd(2)`.
    pub(crate) fn from_eventfd(source: io::Error) -> Self {
        let errno = source.raw_os_error().unwrap_or(0);
        match NoDescriptors::from_errno(errno) {
            Some(error) => error.into(),
            None if errno == libc::ENOMEM => Self::OutOfMemory,
            None => SystemError {
                call: "eventfd",
                source,
            }
            .into(),
        }
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Option {
                option,
                value,
                min,
                max,
            } => write!(f, "{option} is {value}, and must be from {min} to {max}"),
            Self::Variable { variable, value } => write!(
                f,
                "{variable} is {value:?}, and must be one of auto, uring, epoll, threads"
            ),
            Self::IoUringDenied { errno, remedy } => write!(
                f,
                "io_uring is denied to this process ({}): {remedy}",
                errno_name(*errno)
            ),
            Self::IoUringTooOld { missing } => write!(
                f,
                "this kernel's io_uring lacks {missing}; exitring needs Linux 5.13 or newer"
            ),
            Self::PidfdDenied { errno } => pidfd_denied(f, *errno),
            Self::NoDescriptors(cause) => cause.fmt(f),
            Self::OutOfMemory => {
                f.write_str("not enough memory for the ring or for a queue of this capacity")
            }
            Self::Thread(_) => f.write_str(
                "no thread could be started; check RLIMIT_NPROC and the cgroup's pids.max",
            ),
            Self::NoSubreaper => {
                f.write_str("the watcher reaps no orphans; build it with Builder::subreaper(true)")
            }
            Self::System(cause) => cause.fmt(f),
        }
    }
}

impl Error for BuildError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::NoDescriptors(cause) => cause.source(),
            Self::Thread(source) => Some(source),
            Self::System(cause) => cause.source(),
            _ => None,
        }
    }
}

impl_from!(NoDescriptors => BuildError);

impl From<SystemError> for BuildError {
    fn from(cause: SystemError) -> Self {
        Self::System(cause)
    }
}
