//! Errors of adopting children, of signalling them, and of reading their output.

use std::error::Error;
use std::process;
use std::{fmt, io};

use super::common::{Closed, SystemError, impl_from};
use super::watch::{WaitError, WatchError};
use crate::CgroupError;

/// The error of [`Watcher::adopt`](crate::Watcher::adopt). It returns the child to the caller.
#[derive(Debug)]
pub struct AdoptError {
    pub(crate) child: Box<process::Child>,
    pub(crate) source: WatchError,
}

impl AdoptError {
    /// The reason, which is also the [`source`](std::error::Error::source).
    pub fn reason(&self) -> &WatchError {
        &self.source
    }

    /// The child, unchanged.
    pub fn into_child(self) -> process::Child {
        *self.child
    }

    /// The child and the reason.
    pub fn into_parts(self) -> (process::Child, WatchError) {
        (*self.child, self.source)
    }
}

impl fmt::Display for AdoptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the child could not be adopted")
    }
}

impl Error for AdoptError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

/// The error of [`Child::wait_with_output`](crate::Child::wait_with_output).
#[derive(Debug)]
#[non_exhaustive]
pub enum OutputError {
    /// Waiting for the exit failed.
    Wait(WaitError),
    /// Reading a pipe of the child failed.
    Read(io::Error),
}

impl fmt::Display for OutputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wait(cause) => cause.fmt(f),
            Self::Read(_) => f.write_str("the output of the child cannot be read"),
        }
    }
}

impl Error for OutputError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Wait(cause) => cause.source(),
            Self::Read(source) => Some(source),
        }
    }
}

impl From<WaitError> for OutputError {
    fn from(cause: WaitError) -> Self {
        Self::Wait(cause)
    }
}

/// The error of signalling a child.
#[derive(Debug)]
#[non_exhaustive]
pub enum SignalError {
    /// The process has ended.
    Exited,
    /// The process does not lead a process group.
    NoGroup,
    /// The number is not a signal.
    NoSuchSignal(i32),
    /// The process runs as another user now.
    Denied,
    /// The child was not started in a cgroup of its own.
    NoCgroup,
    /// The processes of the cgroup cannot be killed.
    Cgroup(CgroupError),
    /// The watcher no longer accepts calls.
    Closed(Closed),
    /// Another system call failed.
    System(SystemError),
}

impl SignalError {
    pub(crate) fn from_kill(signal: i32, source: io::Error) -> Self {
        match source.raw_os_error() {
            // Other code reaped a child that is ours.
            Some(libc::ESRCH) => Self::Exited,
            Some(libc::EINVAL) => Self::NoSuchSignal(signal),
            Some(libc::EPERM) => Self::Denied,
            _ => SystemError {
                call: "kill",
                source,
            }
            .into(),
        }
    }
}

impl fmt::Display for SignalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited => f.write_str("the process has ended"),
            Self::NoGroup => f.write_str(
                "the process leads no process group; start it with Command::process_group(0)",
            ),
            Self::NoSuchSignal(signal) => write!(f, "there is no signal {signal}"),
            Self::Denied => {
                f.write_str("the process runs as another user and may not be signalled (EPERM)")
            }
            Self::NoCgroup => {
                f.write_str("the child has no cgroup of its own; start it with Command::cgroup")
            }
            Self::Cgroup(cause) => cause.fmt(f),
            Self::Closed(cause) => cause.fmt(f),
            Self::System(cause) => cause.fmt(f),
        }
    }
}

impl Error for SignalError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Cgroup(cause) => cause.source(),
            Self::System(cause) => cause.source(),
            _ => None,
        }
    }
}

impl_from!(Closed => SignalError);

impl From<CgroupError> for SignalError {
    fn from(cause: CgroupError) -> Self {
        Self::Cgroup(cause)
    }
}

impl From<SystemError> for SignalError {
    fn from(cause: SystemError) -> Self {
        Self::System(cause)
    }
}
