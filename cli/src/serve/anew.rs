//! The service executes itself anew, in place: its processes stay its children.

use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, setrlimit};

use super::inherited::{FROM_SYSTEMD, leave};
use super::listen::{Listener, Own};
use super::signals::ignore_sigusr2;
use super::store::State;

/// Does not come back, unless it fails. For the main thread, which forks: children of other threads may have asked for a
/// signal when their thread ends, and an exec ends them.
pub(super) fn execute(listener: Listener, state: State, descriptors: Rlimit) -> anyhow::Error {
    let State { db, lock, .. } = state;
    if let Err((_, error)) = db.close() {
        tracing::warn!(%error, "closing the state");
    }
    let command = move || -> Result<Command> {
        // The very descriptors: a lock is gone as soon as any of its file is closed, a copy too.
        let Listener { socket, own, .. } = listener;
        let mut fds: Vec<(&str, OwnedFd)> =
            vec![("socket", socket.into()), ("state_lock", lock.into())];
        let mut file = None;
        if let Some(Own {
            lock, file: its, ..
        }) = own
        {
            fds.push(("socket_lock", lock.into()));
            // No file has inode 0.
            file = Some(its.map_or((0, 0), |file| (file.device, file.inode)));
        }
        let (name, value) = leave(fds.iter().map(|(name, fd)| (*name, fd)), file)?;
        // They live until the exec.
        std::mem::forget(fds);
        let mut arguments = std::env::args_os();
        let program = arguments.next().context("the program has no name")?;
        let mut command = Command::new(program);
        command.args(arguments).env(name, value);
        for variable in FROM_SYSTEMD {
            command.env_remove(variable);
        }
        Ok(command)
    };
    match command() {
        Ok(mut command) => {
            // What is ignored stays so in the next image, what is caught would not.
            ignore_sigusr2();
            // It raises it for itself, and is to find for its children what we have found.
            if let Err(error) = setrlimit(Resource::Nofile, descriptors) {
                tracing::warn!(%error, "RLIMIT_NOFILE stays raised");
            }
            anyhow::Error::from(command.exec()).context("executing the service anew")
        }
        Err(error) => error.context("executing the service anew"),
    }
}

/// Whether there is something to execute, so that nothing ends for nothing.
pub(super) fn check_program() -> Result<()> {
    use rustix::fs::{Access, access};
    let program = std::env::args_os().next().context("it has no name")?;
    let found = |path: &Path| path.is_file() && access(path, Access::EXEC_OK).is_ok();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = match program.as_encoded_bytes().contains(&b'/') {
        true => found(Path::new(&program)),
        false => std::env::split_paths(&path).any(|folder| found(&folder.join(&program))),
    };
    anyhow::ensure!(there, "{} is not there, or no program", program.display());
    Ok(())
}
