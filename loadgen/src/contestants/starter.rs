//! The ways in which exitring starts programs.

use std::io;
use std::os::unix::process::CommandExt;
use std::process;

use anyhow::{Context, Result};
use exitring::{
    Cgroup, CgroupError, CgroupLimits, CgroupPool, Child, Environment, SpawnError, Stdio, Watcher,
};

use crate::measure::program::Program;

/// What the watcher is given to start a program.
#[derive(Clone)]
pub(crate) enum Starter {
    /// `exitring::Command`. The environment is copied once, as an executor that starts thousands of
    /// programs does it, and not for each child.
    Command {
        environment: Environment,
        /// The cgroups of the children, if each has one of its own.
        cgroups: Option<CgroupPool>,
    },
    /// `std::process::Command`, which uses `posix_spawn`.
    Std,
    /// `std::process::Command` with a `pre_exec` closure, which makes it use `fork` and `exec`. The
    /// closure does nothing.
    StdPreExec,
}

impl Starter {
    pub(crate) fn command() -> Self {
        Self::Command {
            environment: Environment::current(),
            cgroups: None,
        }
    }

    pub(crate) fn in_cgroups() -> Result<Self> {
        Ok(Self::Command {
            environment: Environment::current(),
            cgroups: Some(pool().context("making cgroups for the children")?),
        })
    }

    /// Starts the child of a slot. It inherits all standard streams, except that its output goes to
    /// a pipe if that is to be captured.
    pub(crate) fn start(
        &self,
        watcher: &Watcher,
        program: &Program,
        index: usize,
        capture: bool,
    ) -> Result<Child, SpawnError> {
        if let Self::Command {
            environment,
            cgroups,
        } = self
        {
            let mut command = program.exitring_command(index);
            command.environment(environment);
            if let Some(pool) = cgroups {
                command.cgroup(pool);
            }
            if capture {
                command.stdout(Stdio::piped());
            }
            return watcher.spawn(&mut command);
        }
        let mut command = program.command(index);
        if matches!(self, Self::StdPreExec) {
            let nothing = || -> io::Result<()> { Ok(()) };
            // SAFETY: the closure does nothing.
            unsafe { command.pre_exec(nothing) };
        }
        if capture {
            command.stdout(process::Stdio::piped());
        }
        watcher.spawn(&mut command)
    }
}

fn pool() -> Result<CgroupPool, CgroupError> {
    Cgroup::find()?.pool(&CgroupLimits::new())
}

/// The reason why children cannot have cgroups of their own on this machine, if there is one.
pub(super) fn reason_without_cgroups() -> Option<String> {
    let error = pool().err()?;
    Some(format!("its children cannot have cgroups: {error}"))
}
