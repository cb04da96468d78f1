//! Why a process was not started.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};

use super::setup::Step;
use crate::ProcessLimit;
use crate::cgroup::CgroupLeaf;
use crate::command::Command;
use crate::command::c_strings::CStrings;
use crate::command::environment::EnvironmentBlock;
use crate::error::{SetupStep, SpawnError};

/// No child was made.
pub(super) fn not_cloned(
    command: &Command,
    cgroup: Option<&CgroupLeaf>,
    source: io::Error,
) -> SpawnError {
    match (source.raw_os_error(), cgroup) {
        (Some(libc::EAGAIN), Some(leaf)) => {
            SpawnError::NoProcesses(ProcessLimit::find_for(&leaf.path()))
        }
        (Some(libc::ENOMEM | libc::EMFILE | libc::ENFILE), _) => {
            SpawnError::from_os(&command.program, source)
        }
        (Some(errno), Some(leaf)) => leaf.map_clone_error(errno).into(),
        _ => of_clone(command, source),
    }
}

fn of_clone(command: &Command, source: io::Error) -> SpawnError {
    match source.raw_os_error() {
        // It says nothing about the program.
        Some(libc::EPERM | libc::EACCES) => SpawnError::Other {
            program: command.program.clone(),
            source,
        },
        _ => SpawnError::from_os(&command.program, source),
    }
}

/// A step at which the child failed.
pub(super) struct Failure<'a> {
    pub(super) step: Step,
    pub(super) errno: i32,
    pub(super) command: &'a Command,
    pub(super) cgroup: Option<&'a CgroupLeaf>,
    pub(super) environment: &'a EnvironmentBlock,
    /// The files that it tried to execute.
    pub(super) paths: &'a CStrings,
}

impl Failure<'_> {
    pub(super) fn into_error(self) -> SpawnError {
        let Self {
            step,
            errno,
            command,
            cgroup,
            environment,
            paths,
        } = self;
        let source = io::Error::from_raw_os_error(errno);
        if matches!(errno, libc::EMFILE | libc::ENFILE | libc::ENOMEM) {
            // A resource ran out, whatever the step.
            return SpawnError::from_os(&command.program, source);
        }
        let setup = |step, what| SpawnError::Setup {
            step,
            what,
            source: io::Error::from_raw_os_error(errno),
        };
        let attributes = &command.attributes;
        match step {
            Step::Execute => not_executed(command, environment, source, paths),
            Step::Cgroup => match cgroup {
                Some(leaf) => leaf.map_clone_error(errno).into(),
                None => SpawnError::from_os(&command.program, source),
            },
            Step::Session => setup(SetupStep::Session, "start a session".into()),
            Step::ProcessGroup => setup(SetupStep::ProcessGroup, "join the process group".into()),
            Step::Descriptor(number) if (0..3).contains(&number) => {
                let name = ["input", "output", "error"][number as usize];
                setup(SetupStep::Descriptor, format!("set standard {name}"))
            }
            Step::Descriptor(number) => {
                let limit = getrlimit(Resource::Nofile).current;
                let what = match limit {
                    Some(limit) if number as u64 >= limit => {
                        format!(
                            "map descriptor {number}, which is not below RLIMIT_NOFILE ({limit})"
                        )
                    }
                    _ => format!("map descriptor {number}"),
                };
                setup(SetupStep::Descriptor, what)
            }
            Step::ControllingTerminal => {
                let number = attributes.controlling_terminal.unwrap_or(-1);
                let what = format!("make descriptor {number} the controlling terminal");
                setup(SetupStep::ControllingTerminal, what)
            }
            Step::OomScoreAdj => {
                let value = attributes.oom_score_adj.as_deref().unwrap_or_default();
                let remedy = needs(errno, "CAP_SYS_RESOURCE to lower it");
                setup(
                    SetupStep::OomScoreAdj,
                    format!("set oom_score_adj to {value}{remedy}"),
                )
            }
            Step::Limit(resource) => {
                let remedy = needs(errno, "CAP_SYS_RESOURCE to raise the hard limit");
                setup(SetupStep::Limit, format!("set {resource}{remedy}"))
            }
            Step::Nice => {
                let remedy = match errno {
                    libc::EACCES | libc::EPERM => {
                        "; it needs RLIMIT_NICE or CAP_SYS_NICE to be lowered"
                    }
                    _ => "",
                };
                setup(SetupStep::Nice, format!("set the nice value{remedy}"))
            }
            Step::Scheduling => {
                let remedy = needs(errno, "RLIMIT_RTPRIO or CAP_SYS_NICE");
                setup(
                    SetupStep::Scheduling,
                    format!("set the scheduling policy{remedy}"),
                )
            }
            Step::Affinity => {
                let remedy = match errno {
                    libc::EINVAL => "; none of them is available to this process",
                    _ => "",
                };
                setup(SetupStep::Affinity, format!("restrict the CPUs{remedy}"))
            }
            Step::Groups => {
                let remedy = needs(errno, "CAP_SETGID");
                setup(
                    SetupStep::Groups,
                    format!("set the supplementary groups{remedy}"),
                )
            }
            Step::Gid => {
                let gid = attributes.gid.map_or(0, |gid| gid.as_raw());
                let remedy = needs(errno, "CAP_SETGID");
                setup(SetupStep::Gid, format!("change to the group {gid}{remedy}"))
            }
            Step::Uid => {
                let uid = attributes.uid.map_or(0, |uid| uid.as_raw());
                let remedy = needs(errno, "CAP_SETUID");
                setup(SetupStep::Uid, format!("change to the user {uid}{remedy}"))
            }
            Step::CurrentDir => {
                let directory = attributes.current_dir().unwrap_or(Path::new(""));
                setup(
                    SetupStep::CurrentDir,
                    format!("change to the directory {directory:?}"),
                )
            }
            Step::NoNewPrivs => setup(SetupStep::NoNewPrivs, "set no_new_privs".into()),
            Step::DeathSignal => {
                setup(SetupStep::DeathSignal, "set the parent death signal".into())
            }
            Step::Signal(signal) => {
                let what = format!("set the action of signal {signal}");
                setup(SetupStep::Signals, what)
            }
        }
    }
}

fn needs(errno: i32, privilege: &str) -> String {
    match errno {
        libc::EPERM | libc::EACCES => format!("; it needs {privilege}"),
        _ => String::new(),
    }
}

fn not_executed(
    command: &Command,
    environment: &EnvironmentBlock,
    source: io::Error,
    paths: &CStrings,
) -> SpawnError {
    let program = command.program.clone();
    match source.raw_os_error() {
        Some(libc::E2BIG) => too_large(command, environment, source),
        Some(libc::ENOENT) => match missing_interpreter(command, paths) {
            Some(interpreter) => SpawnError::NoInterpreter {
                program,
                interpreter,
                source,
            },
            None => SpawnError::NotFound { program, source },
        },
        _ => SpawnError::from_os(&command.program, source),
    }
}

/// The interpreter that the first of these files that exists names; `None` if there is none.
fn missing_interpreter(command: &Command, paths: &CStrings) -> Option<PathBuf> {
    let base = command.attributes.current_dir().unwrap_or(Path::new(""));
    paths.iter().find_map(|path| interpreter(&base.join(path)))
}

fn interpreter(path: &Path) -> Option<PathBuf> {
    // The kernel reads this much of the first line (BINPRM_BUF_SIZE).
    const LINE_MAX: u64 = 256;
    // Opening a FIFO would block.
    if !fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut start = Vec::new();
    let file = File::open(path).ok()?;
    file.take(LINE_MAX).read_to_end(&mut start).ok()?;
    let Some(line) = start.strip_prefix(b"#!") else {
        // Then it is its dynamic loader that does not exist.
        return start
            .starts_with(b"\x7fELF")
            .then(|| PathBuf::from("its dynamic loader"));
    };
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let word = line
        .trim_ascii_start()
        .split(u8::is_ascii_whitespace)
        .next();
    Some(PathBuf::from(OsStr::from_bytes(word.unwrap_or_default())))
}

/// The limits of `execve(2)`: a quarter of the stack's limit, but not below 128 KiB and not above 6
/// MiB, for strings and their addresses; and 32 pages for one string.
fn too_large(command: &Command, environment: &EnvironmentBlock, source: io::Error) -> SpawnError {
    let longest_argument = command.arguments.iter().map(OsStr::len).max().unwrap_or(0);
    let longest = longest_argument.max(environment.longest());
    let one_max = 32 * rustix::param::page_size();
    let addresses = command.arguments.len() + environment.addresses().len();
    let bytes = command.arguments.bytes() + environment.bytes() + addresses * size_of::<usize>();
    let limits = &command.attributes.limits;
    let own = limits
        .iter()
        .find(|limit| limit.resource == crate::Resource::Stack);
    let stack = match own {
        Some(limit) => limit.soft,
        None => getrlimit(Resource::Stack).current,
    };
    let stack = stack.unwrap_or(u64::MAX);
    let limit = (stack / 4).clamp(128 << 10, 6 << 20);
    let program = command.program.clone();
    match longest >= one_max {
        true => SpawnError::ArgumentsTooLarge {
            program,
            bytes: longest as u64 + 1,
            limit: one_max as u64,
            one: true,
            source,
        },
        false => SpawnError::ArgumentsTooLarge {
            program,
            bytes: bytes as u64,
            limit,
            one: false,
            source,
        },
    }
}
