//! What can fail, one type per operation. Each message names the cause and,
//! where there is one, the remedy.
//!
//! A message does not repeat that of its source, which [`Error::source`](std::error::Error::source) gives: what prints an error
//! goes on with its sources.

use std::io;

use crate::{Pid, ProcessLimit};

/// A number that names no single process: zero or negative, or above `i32::MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} is no process id: ids of processes are positive, zero and negative numbers name groups"
)]
pub struct InvalidPid(pub(crate) i64);

impl InvalidPid {
    /// The number that was refused.
    pub fn raw(&self) -> i64 {
        self.0
    }
}

/// Why a watcher no longer serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Closed {
    /// The [`Watcher`](crate::Watcher) was dropped.
    #[error("the watcher was dropped")]
    Dropped,
    /// The thread that owns the ring died of an error or a panic; it cannot be
    /// mended, only replaced by a new watcher. [`Stats::death`](crate::Stats) says why.
    #[error("the watcher's ring thread died; build a new watcher")]
    RingThreadDied,
    /// This is a forked child of the process that built the watcher: its threads
    /// were not copied by the fork. Build one in the child.
    #[error("the watcher belongs to the parent of this forked process; build one here")]
    ForkedChild,
}

/// No descriptor was to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoDescriptors {
    /// `EMFILE`: this process uses all it may have.
    #[error(
        "all {limit} descriptors this process may have are in use; close some, or raise RLIMIT_NOFILE (ulimit -n)"
    )]
    Process {
        /// The soft limit, `RLIMIT_NOFILE`.
        limit: u64,
    },
    /// `ENFILE`: the machine's table of open files is full.
    #[error("the machine's table of open files is full; raise the sysctl fs.file-max")]
    Machine,
}

impl NoDescriptors {
    /// Whether the errno says so, and which of the two.
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

/// A system call failed in a way that has no name of its own here.
#[derive(Debug, thiserror::Error)]
#[error("{call} failed")]
pub struct SystemError {
    pub(crate) call: &'static str,
    #[source]
    pub(crate) source: io::Error,
}

impl SystemError {
    /// The call that failed.
    pub fn call(&self) -> &'static str {
        self.call
    }

    /// What it set `errno` to; `None` if the failure was not the kernel's.
    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }
}

/// Why [`Builder::build`](crate::Builder::build) made no watcher.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// An option is outside what it may be.
    #[error("{option} is {value}, and must be from {min} to {max}")]
    Option {
        /// The builder method.
        option: &'static str,
        /// What it was given.
        value: usize,
        /// The least it may be.
        min: usize,
        /// The most it may be.
        max: usize,
    },
    /// The environment variable that chooses a backend has a value that means none.
    #[error("{variable} is {value:?}, and must be one of auto, uring, epoll, threads")]
    Variable {
        /// Its name.
        variable: &'static str,
        /// Its value.
        value: std::ffi::OsString,
    },
    /// This process may not use io_uring.
    #[error("io_uring is denied to this process ({}): {remedy}", errno_name(*.errno))]
    IoUringDenied {
        /// `EPERM` or `ENOSYS`.
        errno: i32,
        /// What to change.
        remedy: &'static str,
    },
    /// The kernel's io_uring is too old.
    #[error("this kernel's io_uring lacks {missing}; exitring needs Linux 5.13 or newer")]
    IoUringTooOld {
        /// The first thing found missing.
        missing: &'static str,
    },
    /// This process may not open pidfds.
    #[error(
        "pidfd_open is denied to this process ({}): it needs Linux 5.4, and a seccomp profile that allows it",
        errno_name(*.errno)
    )]
    PidfdDenied {
        /// `EPERM` or `ENOSYS`.
        errno: i32,
    },
    /// No descriptor was to be had for the ring.
    #[error(transparent)]
    NoDescriptors(#[from] NoDescriptors),
    /// There was no memory for the ring (below Linux 5.12 it counts against `RLIMIT_MEMLOCK`), or for a queue of
    /// this capacity.
    #[error("no memory for the ring, or for a queue of this capacity")]
    OutOfMemory,
    /// A thread could not be started.
    #[error("no thread could be started; RLIMIT_NPROC or the cgroup's pids.max may be reached")]
    Thread(#[source] io::Error),
    /// Another call failed.
    #[error(transparent)]
    System(#[from] SystemError),
}

/// Why a process is not watched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// The number names no process.
    #[error(transparent)]
    InvalidPid(#[from] InvalidPid),
    /// No process has this pid: it never lived, or it was reaped.
    #[error("no process has the pid {pid}: it was reaped, or never lived")]
    NoSuchProcess {
        /// The pid.
        pid: Pid,
    },
    /// The number is that of a thread, not of a process.
    #[error("{pid} is the id of a thread, not of a process; watch its process")]
    Thread {
        /// The number.
        pid: Pid,
    },
    /// The descriptor is not one of a process.
    #[error("the descriptor is no pidfd; get one from pidfd_open or clone3")]
    NotAPidfd,
    /// The descriptor is a pidfd of one thread (`PIDFD_THREAD`).
    #[error(
        "the descriptor is a pidfd of one thread; open one of its process, without PIDFD_THREAD"
    )]
    ThreadPidfd,
    /// The kernel cannot tell when a process is reaped.
    #[error("this kernel cannot tell when a process is reaped; that needs Linux 6.9")]
    Unsupported,
    /// The process behind the pidfd was reaped, so not even its pid can be told.
    #[error("the process behind the pidfd was reaped already")]
    Reaped,
    /// No descriptor was to be had for identifying the process, not even after the ones
    /// on their way to the ring were given back.
    #[error(transparent)]
    NoDescriptors(#[from] NoDescriptors),
    /// The kernel had no memory.
    #[error("the kernel has no memory for a pidfd")]
    OutOfMemory,
    /// This process may not open pidfds.
    #[error(
        "pidfd_open is denied to this process ({}): it needs Linux 5.4, and a seccomp profile that allows it",
        errno_name(*.errno)
    )]
    PidfdDenied {
        /// `EPERM` or `ENOSYS`.
        errno: i32,
    },
    /// As many processes are watched as the builder allows.
    #[error(
        "{limit} processes are watched, which is the limit; raise it with Builder::max_watches"
    )]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// The watcher no longer serves.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// Another call failed.
    #[error(transparent)]
    System(#[from] SystemError),
}

impl From<std::convert::Infallible> for WatchError {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

impl WatchError {
    /// Whether waiting a little and trying again can help: something ran out
    /// (descriptors, memory, watches) that others may give back.
    pub fn is_throttling(&self) -> bool {
        matches!(
            self,
            Self::NoDescriptors(_) | Self::OutOfMemory | Self::TooMany { .. }
        )
    }

    /// What a failed `pidfd_open(pid, 0)` means.
    pub(crate) fn from_pidfd_open(pid: Pid, source: io::Error) -> Self {
        let errno = source.raw_os_error().unwrap_or(0);
        if let Some(none) = NoDescriptors::from_errno(errno) {
            return none.into();
        }
        match errno {
            libc::ESRCH => Self::NoSuchProcess { pid },
            // The pid is positive and there are no flags, so what is invalid is
            // that the task leads no thread group (ENOENT since about Linux 6.15).
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

/// Why a wait brought no exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The watcher ended before the process did.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// The exit comes from a ring thread, which is the caller's own thread (in a waker, or in a callback with `workers(0)`), or
    /// waits for the callback that the caller is. Add a callback instead.
    #[error(
        "waiting here for an exit could never end: the ring thread that brings it is this thread, or waits for this callback; add a callback instead"
    )]
    WouldDeadlock,
}

/// Why [`Watcher::fork_watchable`](crate::Watcher::fork_watchable) gave no child.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForkError {
    /// The watcher could not have taken a child (no descriptor, too many watches,
    /// closed), so none was made.
    #[error("nothing was forked")]
    Refused(#[source] WatchError),
    /// `fork` failed: `EAGAIN` (the limit of processes: `RLIMIT_NPROC`, the cgroup's
    /// `pids.max`, `kernel.pid_max`) or `ENOMEM`.
    #[error("fork failed; see RLIMIT_NPROC, the cgroup's pids.max and kernel.pid_max")]
    Fork(#[source] io::Error),
    /// The child was made and could not be watched; it was killed and reaped before it did
    /// anything. With [`WatchError::NoSuchProcess`]: somebody else killed and reaped it.
    #[error("the forked child could not be watched, and was killed and reaped")]
    Watch(#[source] WatchError),
}

/// The names of the few errnos that messages show.
fn errno_name(errno: i32) -> String {
    match errno {
        libc::EPERM => "EPERM".into(),
        libc::EACCES => "EACCES".into(),
        libc::ENOSYS => "ENOSYS".into(),
        other => format!("errno {other}"),
    }
}

/// Why [`Watcher::spawn`](crate::Watcher::spawn) gave no child.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// The watcher could not have taken a child, so none was made.
    #[error("nothing was started")]
    Refused(#[source] WatchError),
    /// There is no such program.
    #[error("cannot start {program:?}: no such program; check its path, or PATH")]
    NotFound {
        /// The program, as the command has it.
        program: std::ffi::OsString,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no program, or may not be executed.
    #[error("cannot start {program:?}: it may not be executed; check its mode and its first line")]
    NotExecutable {
        /// The program, as the command has it.
        program: std::ffi::OsString,
        /// What the system said.
        source: io::Error,
    },
    /// There may be no more processes.
    #[error("cannot start another process: {0}")]
    NoProcesses(ProcessLimit),
    /// No descriptor was to be had for starting it.
    #[error(transparent)]
    NoDescriptors(#[from] NoDescriptors),
    /// No memory was to be had for another process.
    #[error("no memory for another process")]
    OutOfMemory,
    /// It could not be started for another reason (its directory, its arguments' size, a `pre_exec`).
    #[error("cannot start {program:?}")]
    Other {
        /// The program, as the command has it.
        program: std::ffi::OsString,
        /// What the system said.
        source: io::Error,
    },
    /// It was started and could not be watched, because the watcher ended at that moment; it was killed and
    /// reaped.
    #[error("the child could not be watched, and was killed and reaped")]
    Watch(#[source] WatchError),
}

impl SpawnError {
    /// Whether waiting a little and trying again can help: something ran out that
    /// others may give back.
    pub fn is_throttling(&self) -> bool {
        match self {
            Self::Refused(error) => error.is_throttling(),
            Self::NoProcesses(_) | Self::NoDescriptors(_) | Self::OutOfMemory => true,
            _ => false,
        }
    }

    pub(crate) fn from_spawn(command: &std::process::Command, source: io::Error) -> Self {
        let errno = source.raw_os_error().unwrap_or(0);
        if let Some(none) = NoDescriptors::from_errno(errno) {
            return none.into();
        }
        let program = command.get_program().to_owned();
        match errno {
            libc::EAGAIN => Self::NoProcesses(ProcessLimit::find()),
            libc::ENOMEM => Self::OutOfMemory,
            // Or its directory (current_dir), or the interpreter in its first line.
            libc::ENOENT => Self::NotFound { program, source },
            libc::EACCES | libc::ENOEXEC | libc::EPERM | libc::EISDIR => {
                Self::NotExecutable { program, source }
            }
            _ => Self::Other { program, source },
        }
    }
}

/// Why [`Watcher::adopt`](crate::Watcher::adopt) did not take a child. It is given back.
#[derive(Debug, thiserror::Error)]
#[error("the child could not be taken over")]
pub struct AdoptError {
    pub(crate) child: Box<std::process::Child>,
    pub(crate) source: WatchError,
}

impl AdoptError {
    /// The reason, which is also its [`source`](std::error::Error::source).
    pub fn reason(&self) -> &WatchError {
        &self.source
    }

    /// The child, as it was given.
    pub fn into_child(self) -> std::process::Child {
        *self.child
    }

    /// Both.
    pub fn into_parts(self) -> (std::process::Child, WatchError) {
        (*self.child, self.source)
    }
}

/// Why [`Child::wait_with_output`](crate::Child::wait_with_output) gave no output.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutputError {
    /// The exit did not come.
    #[error(transparent)]
    Wait(#[from] WaitError),
    /// A pipe from the child could not be read.
    #[error("what the child writes cannot be read")]
    Read(#[source] io::Error),
}

/// Why a signal was not sent, or a deadline not set.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignalError {
    /// The process has ended.
    #[error("the process has ended")]
    Exited,
    /// It leads no process group.
    #[error("the process leads no process group; start it with CommandExt::process_group(0)")]
    NoGroup,
    /// There is no such signal.
    #[error("there is no signal {0}")]
    NoSuchSignal(i32),
    /// It runs as another user now.
    #[error("the process runs as another user and may not be signalled (EPERM)")]
    Denied,
    /// The watcher no longer serves.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// Another failure.
    #[error(transparent)]
    System(#[from] SystemError),
}

impl SignalError {
    pub(crate) fn from_kill(signal: i32, source: io::Error) -> Self {
        match source.raw_os_error() {
            // Reaped by somebody who had no business to.
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

/// Why [`Exits::add`](crate::Exits::add) refused a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddError {
    /// As many are outstanding as there is room for.
    #[error(
        "{capacity} watches are outstanding, as many as there is room for; fetch some exits first"
    )]
    Full {
        /// The room.
        capacity: usize,
    },
    /// The exit can never come.
    #[error(transparent)]
    Closed(#[from] Closed),
}

/// Why [`Exits::recv`](crate::Exits::recv) fetched nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// A watcher ended before a process did whose exit was to come. Reported once.
    #[error(transparent)]
    Closed(#[from] Closed),
    /// One of the exits comes from a ring thread that is the caller's own thread (in a waker, or in a callback with
    /// `workers(0)`), or that waits for the callback that the caller is.
    #[error(
        "waiting here for an exit could never end: the ring thread that brings it is this thread, or waits for this callback"
    )]
    WouldDeadlock,
}

/// Why [`Exits::recv_timeout`](crate::Exits::recv_timeout) fetched nothing, though exits are outstanding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecvTimeoutError {
    /// None came in time.
    #[error("no exit came in time")]
    Timeout,
    /// As [`RecvError::Closed`].
    #[error(transparent)]
    Closed(#[from] Closed),
    /// As [`RecvError::WouldDeadlock`].
    #[error(
        "waiting here for an exit could never end: the ring thread that brings it is this thread, or waits for this callback"
    )]
    WouldDeadlock,
}

/// Why [`Exits::try_recv`](crate::Exits::try_recv) fetched nothing, though exits are outstanding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TryRecvError {
    /// None has come yet.
    #[error("no exit has come yet")]
    Empty,
    /// As [`RecvError::Closed`].
    #[error(transparent)]
    Closed(#[from] Closed),
}

impl From<RecvError> for RecvTimeoutError {
    fn from(error: RecvError) -> Self {
        match error {
            RecvError::Closed(closed) => Self::Closed(closed),
            RecvError::WouldDeadlock => Self::WouldDeadlock,
        }
    }
}

#[cfg(test)]
mod tests;
