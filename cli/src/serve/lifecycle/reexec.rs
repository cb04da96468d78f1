//! Executes the service again, in place, so that its processes stay its children.

use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, setrlimit};

use super::inherited::{SYSTEMD_VARIABLES, hand_over};
use super::listener::{Listener, OwnSocket};
use super::signals::ignore_sigusr2;
use crate::serve::store::StateDirectory;

/// Executes the service again. Returns only if that fails.
///
/// To be called on the main thread, which forks: a child may have asked for a signal at the end of
/// the thread that forked it, and an exec ends all other threads.
pub(crate) fn execute(
    listener: Listener,
    state: StateDirectory,
    descriptor_limit: Rlimit,
) -> anyhow::Error {
    let StateDirectory { db, lock, .. } = state;
    if let Err((_, error)) = db.close() {
        tracing::warn!(%error, "closing the state");
    }
    let command = move || -> Result<Command> {
        // These very descriptors: closing any descriptor of a lock file, even a copy, releases its
        // lock.
        let Listener { socket, own, .. } = listener;
        let mut fds: Vec<(&str, OwnedFd)> =
            vec![("socket", socket.into()), ("state_lock", lock.into())];
        let mut file = None;
        if let Some(OwnSocket {
            lock, file: its, ..
        }) = own
        {
            fds.push(("socket_lock", lock.into()));
            // No file has inode 0.
            file = Some(its.map_or((0, 0), |file| (file.device, file.inode)));
        }
        let (name, value) = hand_over(fds.iter().map(|(name, fd)| (*name, fd)), file)?;
        // They stay open until the exec.
        std::mem::forget(fds);
        let mut arguments = std::env::args_os();
        let program = arguments.next().context("argv has no program")?;
        let mut command = Command::new(program);
        command.args(arguments).env(name, value);
        for variable in SYSTEMD_VARIABLES {
            command.env_remove(variable);
        }
        Ok(command)
    };
    match command() {
        Ok(mut command) => {
            // An ignored signal stays ignored over an exec; a handled one would be fatal.
            ignore_sigusr2();
            // The next image raises the limit itself, and must find the original one for its
            // children.
            if let Err(error) = setrlimit(Resource::Nofile, descriptor_limit) {
                tracing::warn!(%error, "RLIMIT_NOFILE stays raised");
            }
            anyhow::Error::from(command.exec()).context("executing the service again")
        }
        Err(error) => error.context("executing the service again"),
    }
}

/// Checks that there is a program to execute, so that the service does not stop in vain.
pub(crate) fn check_program() -> Result<()> {
    use rustix::fs::{Access, access};
    let program = std::env::args_os().next().context("argv has no program")?;
    let is_program = |path: &Path| path.is_file() && access(path, Access::EXEC_OK).is_ok();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = match program.as_encoded_bytes().contains(&b'/') {
        true => is_program(Path::new(&program)),
        false => {
            std::env::split_paths(&path).any(|directory| is_program(&directory.join(&program)))
        }
    };
    anyhow::ensure!(
        found,
        "{} does not exist or is not executable",
        program.display()
    );
    Ok(())
}
