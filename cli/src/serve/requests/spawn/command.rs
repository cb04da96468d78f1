//! The command of a `spawn` request: its program, environment and files.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use exitring_protocol::{Code, Error, Spawn};
use rustix::fs::OFlags;
use rustix::process::getpid;

use super::attributes::Attributes;
use super::child::ChildSetup;
use super::program::Program;
use super::refusal::out_of_range;
use crate::serve::service::{Peer, Service};

/// The environment variable that has the instance and the watch of a process.
const WATCH_ID_VARIABLE: &str = "EXITRING_SERVE_ID";

/// The `PATH` of a process whose request has no environment.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Builds the command. `gate`: the child's end of its start gate.
pub(super) fn command(
    service: &Service,
    peer: Peer,
    spawn: &Spawn,
    id: u64,
    gate: UnixStream,
) -> Result<Command, Error> {
    let name = program_name(spawn)?;
    let (mut environment, path) = environment(spawn)?;
    environment.push(c_string(
        format!("{WATCH_ID_VARIABLE}={}:{id}", service.instance).as_bytes(),
    )?);
    let paths = paths(name, path)?;
    let arguments = spawn
        .argv
        .iter()
        .map(|argument| c_string(argument.as_bytes()));
    let program = Program::new(paths, arguments.collect::<Result<_, _>>()?, environment);

    // `std` never executes this program: `ChildSetup` executes the real one in the child.
    let mut command = Command::new("/");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // A group of its own: it gets no signals from the service's terminal, and a timeout also ends
    // its descendants.
    command.process_group(0);
    let reading = OFlags::RDONLY;
    let appending = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND;
    let cwd = spawn.cwd.as_deref().unwrap_or(Path::new("/"));
    let mut setup = ChildSetup {
        gate,
        service: getpid(),
        user: (service.uid == 0 && peer.uid != 0).then_some(peer),
        attributes: Attributes::new(service, peer, spawn)?,
        cwd: c_string(cwd.as_os_str().as_bytes())?,
        files: [
            file(&spawn.stdin, reading)?,
            file(&spawn.stdout, appending)?,
            file(&spawn.stderr, appending)?,
        ],
        program,
    };
    // SAFETY: `run` only makes system calls, on memory that was allocated before the fork.
    unsafe { command.pre_exec(move || setup.run()) };
    Ok(command)
}

/// The environment, and its `PATH`.
fn environment(spawn: &Spawn) -> Result<(Vec<CString>, Option<&str>), Error> {
    let Some(env) = &spawn.env else {
        let path = c_string(format!("PATH={DEFAULT_PATH}").as_bytes())?;
        return Ok((vec![path], Some(DEFAULT_PATH)));
    };
    let mut environment = Vec::new();
    for (name, value) in env {
        if name.is_empty() || name.contains('=') {
            return Err(out_of_range(format!(
                "{name:?} is not a valid name of an environment variable"
            )));
        }
        if name != WATCH_ID_VARIABLE {
            environment.push(c_string(format!("{name}={value}").as_bytes())?);
        }
    }
    Ok((environment, env.get("PATH").map(String::as_str)))
}

/// The first argument, which names the program.
fn program_name(spawn: &Spawn) -> Result<&str, Error> {
    let name = spawn.argv.first().filter(|name| !name.is_empty());
    let name = name.map(String::as_str);
    name.ok_or_else(|| out_of_range("argv is empty; its first element is the program".into()))
}

/// The paths at which to look for the program, by its own `PATH` and not by the service's.
fn paths(program: &str, path: Option<&str>) -> Result<Vec<CString>, Error> {
    match (program.contains('/'), path) {
        (true, _) => Ok(vec![c_string(program.as_bytes())?]),
        (false, Some(path)) => path
            .split(':')
            .map(|directory| c_string(Path::new(directory).join(program).as_os_str().as_bytes()))
            .collect(),
        (false, None) => Err(out_of_range(format!(
            "{program:?} has no slash, and env has no PATH; add one of them"
        ))),
    }
}

fn file(path: &Option<PathBuf>, flags: OFlags) -> Result<Option<(CString, OFlags)>, Error> {
    match path {
        None => Ok(None),
        Some(path) => CString::new(path.as_os_str().as_bytes())
            .map(|path| Some((path, flags)))
            .map_err(|_| out_of_range(format!("{path:?} has a zero byte"))),
    }
}

fn c_string(text: &[u8]) -> Result<CString, Error> {
    CString::new(text).map_err(|_| {
        let message = "argv, env, cwd and files must not have zero bytes";
        Error::new(Code::CannotStart, message)
    })
}
