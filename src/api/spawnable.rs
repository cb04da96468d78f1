//! The types of commands that a watcher starts.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::process;

use super::child::Pipes;
use crate::error::SpawnError;
use crate::spawn::process as new_process;
use crate::{CgroupLeaf, Command, Pid};

/// A command that [`Watcher::spawn`](crate::Watcher::spawn) starts: [`Command`], or
/// [`std::process::Command`]. No other type can implement it.
pub trait Spawn: sealed::Start {}

impl Spawn for Command {}
impl Spawn for process::Command {}

/// A child that was started, and is not watched yet.
pub struct Started {
    pub(crate) pid: Pid,
    pub(crate) pidfd: Option<OwnedFd>,
    pub(crate) pipes: Pipes,
    pub(crate) cgroup: Option<CgroupLeaf>,
    pub(crate) kill_leftovers: bool,
}

mod sealed {
    use super::{OsStr, SpawnError, Started};

    pub trait Start {
        /// Starts the program. With `pidfd`, also opens a pidfd if that is cheap.
        fn start(&mut self, pidfd: bool) -> Result<Started, SpawnError>;

        fn program(&self) -> &OsStr;
    }
}

impl sealed::Start for Command {
    fn start(&mut self, pidfd: bool) -> Result<Started, SpawnError> {
        let process = new_process::start(self, pidfd)?;
        let [stdin, stdout, stderr] = process.pipes;
        let pipes = Pipes {
            stdin: stdin.map(Into::into),
            stdout: stdout.map(Into::into),
            stderr: stderr.map(Into::into),
        };
        Ok(Started {
            pid: process.pid,
            pidfd: process.pidfd,
            pipes,
            cgroup: process.cgroup,
            kill_leftovers: self.attributes.kill_leftovers,
        })
    }

    fn program(&self) -> &OsStr {
        self.get_program()
    }
}

impl sealed::Start for process::Command {
    fn start(&mut self, _pidfd: bool) -> Result<Started, SpawnError> {
        let spawned = self.spawn();
        let mut child = spawned.map_err(|error| SpawnError::from_spawn(self, error))?;
        let pid = Pid::try_from(child.id()).map_err(|error| SpawnError::Watch(error.into()))?;
        Ok(Started {
            pid,
            pidfd: None,
            pipes: Pipes::of(&mut child),
            cgroup: None,
            kill_leftovers: false,
        })
    }

    fn program(&self) -> &OsStr {
        self.get_program()
    }
}
