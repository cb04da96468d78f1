//! Errors of making children.

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process;
use std::{fmt, io};

use super::common::{NoDescriptors, impl_from};
use super::watch::WatchError;
use crate::{CgroupError, Command, ProcessLimit};

/// The error of [`Watcher::fork_watchable`](crate::Watcher::fork_watchable) and
/// [`Watcher::vfork_watchable`](crate::Watcher::vfork_watchable).
#[derive(Debug)]
#[non_exhaustive]
pub enum ForkError {
    /// The watcher could not accept another child (no descriptor, too many watches, closed), so
    /// no child was made.
    Refused(WatchError),
    /// `fork(2)` or `clone(2)` failed: `EAGAIN` (a limit on processes: `RLIMIT_NPROC`, the cgroup's
    /// `pids.max`, `kernel.pid_max`) or `ENOMEM`. For `vfork_watchable` also `EMFILE` or `ENFILE`,
    /// because `clone` opens the pidfd.
    Fork(io::Error),
    /// The child was made but could not be watched, and was killed and reaped. A child of
    /// `fork_watchable` has not run any code of the caller's; a child of `vfork_watchable` has
    /// executed its program or ended. With [`WatchError::NoSuchProcess`], other code killed and
    /// reaped it.
    Watch(WatchError),
}

impl fmt::Display for ForkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused(_) => "nothing was forked",
            Self::Fork(_) => {
                "fork failed; see RLIMIT_NPROC, the cgroup's pids.max and kernel.pid_max"
            }
            Self::Watch(_) => "the forked child could not be watched, and was killed and reaped",
        })
    }
}

impl Error for ForkError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Fork(source) => Some(source),
            Self::Refused(source) | Self::Watch(source) => Some(source),
        }
    }
}

/// The error of [`Watcher::spawn`](crate::Watcher::spawn).
#[derive(Debug)]
#[non_exhaustive]
pub enum SpawnError {
    /// The watcher could not accept another child, so none was started.
    Refused(WatchError),
    /// The program does not exist.
    NotFound {
        /// The program as the command names it.
        program: OsString,
        /// The error of the system call.
        source: io::Error,
    },
    /// The file is not a program, or the caller may not execute it.
    NotExecutable {
        /// The program as the command names it.
        program: OsString,
        /// The error of the system call.
        source: io::Error,
    },
    /// The file exists, and the interpreter in its first line (`#!`) or its dynamic loader does
    /// not.
    NoInterpreter {
        /// The program as the command names it.
        program: OsString,
        /// The interpreter as the file names it.
        interpreter: PathBuf,
        /// The error of the system call.
        source: io::Error,
    },
    /// The arguments and the environment together, or one of these strings, are larger than the
    /// kernel accepts (`E2BIG`, `execve(2)`).
    ArgumentsTooLarge {
        /// The program as the command names it.
        program: OsString,
        /// The size in bytes.
        bytes: u64,
        /// The largest size that is accepted.
        limit: u64,
        /// Whether one string is too large, and not all together.
        one: bool,
        /// The error of the system call.
        source: io::Error,
    },
    /// An attribute of a [`Command`] could not be set, so the program was not executed.
    Setup {
        /// The attribute.
        step: SetupStep,
        /// What failed, for the message: "change to the directory \"/x\"".
        what: String,
        /// The error of the system call.
        source: io::Error,
    },
    /// The command cannot be started anywhere: it contains a NUL, a name that no environment
    /// variable can have, or a number that is out of range.
    Invalid {
        /// The program as the command names it.
        program: OsString,
        /// Which part of it is invalid.
        reason: String,
    },
    /// The child cannot have a cgroup, or cannot start in it.
    Cgroup(CgroupError),
    /// A limit on the number of processes is reached.
    NoProcesses(ProcessLimit),
    /// No descriptor is free to start the program.
    NoDescriptors(NoDescriptors),
    /// There is not enough memory for another process.
    OutOfMemory,
    /// Starting it failed for another reason. For a command of the standard library that includes
    /// its working directory, the size of its arguments, and a `pre_exec` closure.
    Other {
        /// The program as the command names it.
        program: OsString,
        /// The error of the system call.
        source: io::Error,
    },
    /// The child was started but could not be watched, because the watcher ended at that moment.
    /// It was killed and reaped.
    Watch(WatchError),
}

impl SpawnError {
    /// Whether a later attempt can succeed: the call ran out of something that other code may
    /// release.
    pub fn is_throttling(&self) -> bool {
        match self {
            Self::Refused(error) => error.is_throttling(),
            Self::Cgroup(error) => error.is_throttling(),
            Self::NoProcesses(_) | Self::NoDescriptors(_) | Self::OutOfMemory => true,
            _ => false,
        }
    }

    pub(crate) fn from_spawn(command: &process::Command, source: io::Error) -> Self {
        Self::from_os(command.get_program(), source)
    }

    pub(crate) fn from_os(program: &OsStr, source: io::Error) -> Self {
        let errno = source.raw_os_error().unwrap_or(0);
        if let Some(none) = NoDescriptors::from_errno(errno) {
            return none.into();
        }
        let program = program.to_owned();
        match errno {
            libc::EAGAIN => Self::NoProcesses(ProcessLimit::find()),
            libc::ENOMEM => Self::OutOfMemory,
            // With a command of the standard library also its directory, or the interpreter in its
            // first line.
            libc::ENOENT => Self::NotFound { program, source },
            libc::EACCES | libc::ENOEXEC | libc::EPERM | libc::EISDIR => {
                Self::NotExecutable { program, source }
            }
            _ => Self::Other { program, source },
        }
    }

    pub(crate) fn invalid(command: &Command, reason: String) -> Self {
        let program = command.program.clone();
        Self::Invalid { program, reason }
    }
}

/// An attribute that a child sets before it executes its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SetupStep {
    /// [`Command::session`].
    Session,
    /// [`Command::process_group`].
    ProcessGroup,
    /// A standard stream, or [`Command::descriptor`].
    Descriptor,
    /// [`Command::controlling_terminal`].
    ControllingTerminal,
    /// [`Command::oom_score_adj`].
    OomScoreAdj,
    /// [`Command::limit`].
    Limit,
    /// [`Command::nice`].
    Nice,
    /// [`Command::scheduling`].
    Scheduling,
    /// [`Command::cpu_affinity`].
    Affinity,
    /// [`Command::groups`].
    Groups,
    /// [`Command::gid`].
    Gid,
    /// [`Command::uid`].
    Uid,
    /// [`Command::current_dir`].
    CurrentDir,
    /// [`Command::no_new_privs`].
    NoNewPrivs,
    /// [`Command::parent_death_signal`].
    DeathSignal,
    /// [`Command::ignored_signals`] or [`Command::default_signals`].
    Signals,
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(_) => f.write_str("nothing was started"),
            Self::NotFound { program, .. } => write!(
                f,
                "cannot start {program:?}: no such program; check its path, or PATH"
            ),
            Self::NotExecutable { program, .. } => write!(
                f,
                "cannot start {program:?}: it may not be executed; check its mode and its first \
                 line"
            ),
            Self::NoInterpreter {
                program,
                interpreter,
                ..
            } => write!(
                f,
                "cannot start {program:?}: it exists, but the interpreter that it names does not: {}; \
                 install it, or correct the first line of the file",
                interpreter.display()
            ),
            Self::ArgumentsTooLarge {
                program,
                bytes,
                limit,
                one,
                ..
            } => write!(
                f,
                "cannot start {program:?}: {} of {bytes} bytes; the kernel accepts {limit}; pass less, \
                 or pass it in a file",
                match one {
                    true => "an argument or environment variable",
                    false => "arguments and environment",
                }
            ),
            Self::Setup { what, .. } => write!(f, "cannot {what}"),
            Self::Invalid { program, reason } => write!(f, "cannot start {program:?}: {reason}"),
            Self::Cgroup(_) => f.write_str("the child cannot be started in a cgroup of its own"),
            Self::NoProcesses(limit) => write!(f, "cannot start another process: {limit}"),
            Self::NoDescriptors(cause) => cause.fmt(f),
            Self::OutOfMemory => f.write_str("no memory for another process"),
            Self::Other { program, .. } => write!(f, "cannot start {program:?}"),
            Self::Watch(_) => {
                f.write_str("the child could not be watched, and was killed and reaped")
            }
        }
    }
}

impl Error for SpawnError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::NotFound { source, .. }
            | Self::NotExecutable { source, .. }
            | Self::NoInterpreter { source, .. }
            | Self::ArgumentsTooLarge { source, .. }
            | Self::Setup { source, .. }
            | Self::Other { source, .. } => Some(source),
            Self::Refused(source) | Self::Watch(source) => Some(source),
            Self::Cgroup(source) => Some(source),
            Self::Invalid { .. }
            | Self::NoProcesses(_)
            | Self::NoDescriptors(_)
            | Self::OutOfMemory => None,
        }
    }
}

impl_from!(NoDescriptors => SpawnError);

impl From<CgroupError> for SpawnError {
    fn from(cause: CgroupError) -> Self {
        match cause {
            CgroupError::NoDescriptors(cause) => cause.into(),
            CgroupError::OutOfMemory => Self::OutOfMemory,
            cause => Self::Cgroup(cause),
        }
    }
}
