//! Starting the process of a [`Command`].

#![allow(unsafe_code, reason = "makes a child in the memory of this process")]

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::process;
use std::thread;
use std::time::Duration;

use rustix::pipe::{PipeFlags, pipe_with};

use super::clone::{self, Clone3, Cloned};
use super::descriptors::{Mapping, Mappings, Source};
use super::diagnosis::{self, Failure};
use super::dumpable::SharedMemory;
use super::setup::{self, Report, Setup, Step};
use super::stack::ChildStack;
use crate::Pid;
use crate::cgroup::CgroupLeaf;
use crate::command::Command;
use crate::command::search_path::Candidates;
use crate::command::stdio::Stream;
use crate::error::SpawnError;
use crate::faults;
use crate::sys::{self, SignalMask, WaitResult, WaitTarget};
use crate::types::exit::Outcome;

/// How often, and how long apart, a child that has not run is checked for its end.
const BIRTH_CHECKS: u32 = 100;
const BIRTH_CHECK_PAUSE: Duration = Duration::from_millis(1);

/// The pauses between attempts to execute a file that is open for writing.
const BUSY_PAUSES_MS: [u64; 7] = [1, 2, 4, 8, 16, 32, 64];

/// A process that executes its program.
pub(crate) struct Process {
    pub(crate) pid: Pid,
    /// `None` if it was not asked for, or no descriptor was free.
    pub(crate) pidfd: Option<OwnedFd>,
    /// The parent's ends of the pipes to standard input, output and error.
    pub(crate) pipes: [Option<OwnedFd>; 3],
    /// The cgroup that it started in.
    pub(crate) cgroup: Option<CgroupLeaf>,
}

/// Starts the process of a command. Blocks until it has executed the program or failed to.
///
/// With `pidfd`, a pidfd is opened, as long as a descriptor is free for it.
pub(crate) fn start(command: &Command, pidfd: bool) -> Result<Process, SpawnError> {
    command
        .check()
        .map_err(|reason| SpawnError::invalid(command, reason))?;
    let search_path = match command.needs_search() {
        true => command.environment.search_path(),
        false => None,
    };
    let mut candidates = Candidates::of(&command.program, search_path.as_deref());
    if command.attributes.changes_credentials() {
        // Another user may find another file.
        candidates.first = None;
    }
    let environment = command.environment.block();
    if let Some(name) = environment.variable_with_nul() {
        let reason = format!("the value of the environment variable {name:?} contains a NUL");
        return Err(SpawnError::invalid(command, reason));
    }
    let paths = candidates.paths.null_terminated();
    let arguments = command.arguments.null_terminated();
    let cgroup = match &command.attributes.cgroup {
        Some(pool) => Some(pool.acquire()?),
        None => None,
    };
    let mut pauses = BUSY_PAUSES_MS.iter();
    let mut enters_cgroup = false;
    loop {
        let pipes = Pipes::new(command)?;
        let mut setup = Setup {
            attributes: &command.attributes,
            descriptors: Mappings::new(mappings(command, &pipes)),
            parent: match command.attributes.death_signal {
                Some(_) => process::id() as i32,
                None => 0,
            },
            mask: SignalMask::ALL,
            has_handlers: false,
            cgroup: cgroup.as_ref(),
            enters_cgroup,
            cgroup_procs: None,
            candidates: &paths[..candidates.paths.len()],
            first_candidate: candidates.first,
            arguments: &arguments,
            environment: environment.addresses(),
            report: Report::default(),
        };
        let (pid, pidfd) = run_setup(command, &mut setup, pidfd)?;
        match setup.report.failure {
            None if !enters_cgroup && was_killed_at_birth(&setup, pid) => {
                sys::reap_ending(pid, pidfd.as_ref().map(AsFd::as_fd));
                enters_cgroup = true;
            }
            None => {
                if !command.attributes.changes_credentials() {
                    let index = setup.report.candidate;
                    candidates.executed(&command.program, search_path.as_deref(), index);
                }
                return Ok(Process {
                    pid,
                    pidfd,
                    pipes: pipes.into_ends_of_parent(),
                    cgroup,
                });
            }
            // Another thread may be about to execute or end a child that has a copy of the
            // descriptor with which the file was written.
            Some((Step::Execute, libc::ETXTBSY)) if pauses.len() > 0 => {
                let pause = pauses.next().copied().unwrap_or_default();
                thread::sleep(Duration::from_millis(pause));
            }
            Some((step, errno)) => {
                let failure = Failure {
                    step,
                    errno,
                    command,
                    cgroup: cgroup.as_ref(),
                    environment: &environment,
                    paths: &candidates.paths,
                };
                return Err(failure.into_error());
            }
        }
    }
}

/// Makes the child, and returns when it has executed the program, or has failed and is reaped.
fn run_setup(command: &Command, setup: &mut Setup<'_>, pidfd: bool) -> Result<Cloned, SpawnError> {
    let shared_memory = match command.attributes.changes_credentials() {
        true => {
            let shared = SharedMemory::new();
            let shared = shared.map_err(|error| SpawnError::from_os(&command.program, error))?;
            setup.descriptors.keep(shared.writer());
            Some(shared)
        }
        false => None,
    };
    let (pid, pidfd) = match make_child(setup, pidfd) {
        Ok(child) => child,
        Err(error) => {
            if let Some(shared_memory) = shared_memory {
                shared_memory.without_child();
            }
            return Err(diagnosis::not_cloned(command, setup.cgroup, error));
        }
    };
    if setup.report.failure.is_some() {
        // It is ending.
        sys::reap_ending(pid, pidfd.as_ref().map(AsFd::as_fd));
    }
    if let Some(shared_memory) = shared_memory {
        shared_memory.wait();
    }
    Ok((pid, pidfd))
}

/// Whether the kernel has killed the child before its first instruction, because its cgroup was
/// killed more or less often than that of this process.
///
/// The kernel counts the kills of each cgroup, and compares the count of the group in which a fork
/// begins with that of the group in which the child is at the end, to find kills in between. With
/// `CLONE_INTO_CGROUP` these are different groups (Linux 6.14, and stable versions with the same
/// change). A child that enters the group by a write is not affected.
fn was_killed_at_birth(setup: &Setup<'_>, pid: Pid) -> bool {
    let Some(cgroup) = setup.cgroup else {
        return false;
    };
    if setup.report.started {
        return false;
    }
    let killed = Outcome::Signaled {
        signal: libc::SIGKILL,
        core_dumped: false,
    };
    // It has left the memory, so it is about to be a zombie; except in an emulator that copies the
    // memory.
    for _ in 0..BIRTH_CHECKS {
        match sys::waitid(WaitTarget::PeekPid(pid)) {
            Ok(WaitResult::Pending) => thread::sleep(BIRTH_CHECK_PAUSE),
            Ok(WaitResult::Ended(outcome, _)) if outcome == killed => {
                cgroup.spoil();
                return true;
            }
            // SIGCHLD is ignored, so the kernel has reaped it.
            Ok(WaitResult::NoChild) => {
                cgroup.spoil();
                return true;
            }
            _ => return false,
        }
    }
    false
}

/// The pipes to the standard streams.
struct Pipes {
    /// The child's ends, and the parent's.
    ends: [Option<(OwnedFd, OwnedFd)>; 3],
}

impl Pipes {
    fn new(command: &Command) -> Result<Self, SpawnError> {
        let mut ends = [const { None }; 3];
        for (number, end) in ends.iter_mut().enumerate() {
            if command.is_piped(number) {
                let pipe = faults::inject("pipe2")
                    .and_then(|()| Ok(pipe_with(PipeFlags::CLOEXEC)?))
                    .map_err(|error| SpawnError::from_os(&command.program, error))?;
                *end = Some(match (number, pipe) {
                    (0, (read, write)) => (read, write),
                    (_, (read, write)) => (write, read),
                });
            }
        }
        Ok(Self { ends })
    }

    fn into_ends_of_parent(self) -> [Option<OwnedFd>; 3] {
        self.ends.map(|ends| ends.map(|(_, of_parent)| of_parent))
    }
}

fn mappings(command: &Command, pipes: &Pipes) -> Vec<Mapping> {
    let mut mappings = Vec::with_capacity(3 + command.attributes.descriptors.len());
    for (number, (stream, pipe)) in command.streams.iter().zip(&pipes.ends).enumerate() {
        let source = match (&stream.0, pipe) {
            (_, Some((of_child, _))) => Source::File(of_child.as_raw_fd()),
            (Stream::File(file), None) => Source::File(file.as_raw_fd()),
            (Stream::Null, None) => Source::Null,
            (Stream::Inherited | Stream::Piped, None) => continue,
        };
        let number = number as RawFd;
        mappings.push(Mapping { number, source });
    }
    let others = command.attributes.descriptors.iter();
    mappings.extend(others.map(|(number, file)| Mapping {
        number: *number,
        source: Source::File(file.as_raw_fd()),
    }));
    mappings
}

/// Makes the child. Where `clone3` is not available, `clone` takes its place.
fn make_child(setup: &mut Setup<'_>, pidfd: bool) -> io::Result<Cloned> {
    match clone_once(setup, pidfd) {
        // A start does not fail for lack of a pidfd.
        Err(error) if pidfd && is_descriptor_shortage(&error) => clone_once(setup, false),
        cloned => cloned,
    }
}

fn clone_once(setup: &mut Setup<'_>, pidfd: bool) -> io::Result<Cloned> {
    faults::inject("vfork")?;
    let mut memory = ChildStack::new();
    let stack = memory.stack();
    let (directory, procs) = match setup.cgroup {
        Some(cgroup) if setup.enters_cgroup => (None, Some(cgroup.open_procs()?)),
        Some(cgroup) => (Some(cgroup.open_dir()?), None),
        None => (None, None),
    };
    setup.cgroup_procs = procs.as_ref().map(AsRawFd::as_raw_fd);
    let options = Clone3 {
        pidfd,
        cgroup: directory.as_ref().map(AsFd::as_fd),
    };
    // SAFETY: nothing else uses the stack. It and the setup outlive their use by the child, because this thread
    // is suspended until the child has left both. What the child does is safe beside other threads:
    // it makes system calls only.
    let cloned = with_blocked_signals(setup, |argument| unsafe {
        clone::clone3(options, &stack, setup::main, argument)
    });
    match cloned {
        Err(error) if clone::is_unavailable(&error) => {
            let procs = match (procs, setup.cgroup) {
                (None, Some(cgroup)) => Some(cgroup.open_procs()?),
                (procs, _) => procs,
            };
            drop(directory);
            setup.has_handlers = true;
            setup.cgroup_procs = procs.as_ref().map(AsRawFd::as_raw_fd);
            // SAFETY: as above.
            with_blocked_signals(setup, |argument| unsafe {
                clone::clone(pidfd, &stack, setup::main, argument)
            })
        }
        cloned => cloned,
    }
}

/// Blocks all signals for the start of a child. A signal handler in the child would run in the
/// memory of this process, and so would the C library's cancellation of a thread.
fn with_blocked_signals(
    setup: &mut Setup<'_>,
    clone: impl FnOnce(*mut c_void) -> io::Result<Cloned>,
) -> io::Result<Cloned> {
    let blocked = SignalMask::block_all();
    setup.mask = blocked.before();
    clone((&raw mut *setup).cast())
}

fn is_descriptor_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}
