//! Causes that several operations share.

use std::error::Error;
use std::{fmt, io};

/// A number that is not a process id: zero, negative, or above `i32::MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidPid(pub(crate) i64);

impl InvalidPid {
    /// The rejected number.
    pub fn raw(&self) -> i64 {
        self.0
    }
}

impl fmt::Display for InvalidPid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is no process id: process ids are positive, zero and negative numbers name groups",
            self.0
        )
    }
}

impl Error for InvalidPid {}

/// Why a watcher no longer accepts calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Closed {
    /// The [`Watcher`](crate::Watcher) was dropped.
    Dropped,
    /// The ring thread died of an error or a panic. The watcher cannot recover; build a new one.
    /// [`Stats::death`](crate::Stats) has the reason.
    RingThreadDied,
    /// This process is a forked child of the process that built the watcher. `fork` does not copy
    /// the watcher's threads; build a watcher in the child.
    ForkedChild,
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dropped => "the watcher was dropped",
            Self::RingThreadDied => {
                "the watcher's ring thread died (Stats::death has the reason); build a new watcher"
            }
            Self::ForkedChild => {
                "the watcher belongs to the parent of this forked process; build one here"
            }
        })
    }
}

impl Error for Closed {}

/// The kernel could not allocate a file descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoDescriptors {
    /// `EMFILE`: the process has reached its limit.
    Process {
        /// The soft limit of `RLIMIT_NOFILE`.
        limit: u64,
    },
    /// `ENFILE`: the system has reached its limit on open files.
    Machine,
}

impl NoDescriptors {
    /// The variant for an errno, if the errno means that descriptors ran out.
    pub(crate) fn from_errno(errno: i32) -> Option<Self> {
        match errno {
            libc::EMFILE => Some(Self::Process {
                limit: crate::sys::descriptor_limit(),
            }),
            libc::ENFILE => Some(Self::Machine),
            _ => None,
        }
    }
}

impl fmt::Display for NoDescriptors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { limit } => write!(
                f,
                "all {limit} descriptors this process may have are in use; close some, or raise \
                 RLIMIT_NOFILE (ulimit -n)"
            ),
            Self::Machine => f.write_str(
                "the machine's table of open files is full; raise the sysctl fs.file-max",
            ),
        }
    }
}

impl Error for NoDescriptors {}

/// A system call failed with an error that has no variant of its own.
#[derive(Debug)]
pub struct SystemError {
    pub(crate) call: &'static str,
    pub(crate) source: io::Error,
}

impl SystemError {
    /// The name of the call that failed.
    pub fn call(&self) -> &'static str {
        self.call
    }

    /// The value of `errno`; `None` if the error did not come from the kernel.
    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }
}

impl fmt::Display for SystemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed", self.call)
    }
}

impl Error for SystemError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

/// The errnos that messages show, by name.
pub(super) fn errno_name(errno: i32) -> String {
    match errno {
        libc::EPERM => "EPERM".into(),
        libc::EACCES => "EACCES".into(),
        libc::ENOSYS => "ENOSYS".into(),
        other => format!("errno {other}"),
    }
}

/// The message of both errors that say that pidfds are denied.
pub(super) fn pidfd_denied(f: &mut fmt::Formatter<'_>, errno: i32) -> fmt::Result {
    write!(
        f,
        "pidfd_open is denied to this process ({}): it needs Linux 5.4, and a seccomp profile \
         that allows it",
        errno_name(errno)
    )
}

/// Conversions from causes into the variants of the same name.
macro_rules! impl_from {
    ($($cause:ident => $error:ident),* $(,)?) => {$(
        impl From<$cause> for $error {
            fn from(cause: $cause) -> Self {
                Self::$cause(cause)
            }
        }
    )*};
}

pub(super) use impl_from;
