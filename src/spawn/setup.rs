//! What a child does between its start and the execution of its program.
//!
//! The child runs in the memory of its parent, beside the parent's other threads, and in place of
//! the thread that made it, which is suspended. So everything here is async-signal-safe: system
//! calls on prepared values, without allocation, locks, or panics. Functions of the C library at
//! which a thread can be cancelled (`open`, `write`), and those that act on all threads (`setuid`),
//! are replaced by plain system calls.

#![allow(unsafe_code, reason = "a child in the memory of its parent")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::os::fd::RawFd;

use rustix::fs::Mode;
use rustix::process::Rlimit;

use super::descriptors::{Mappings, checked};
use super::signal_actions::{reset_handlers, set_action};
use crate::cgroup::CgroupLeaf;
use crate::command::attributes::{Attributes, Group, HardLimit};
use crate::command::resource::Resource;
use crate::sys::SignalMask;

/// The signals that stop a process and that can be blocked.
const STOPS: [i32; 3] = [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];

/// A step of a child that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Cgroup,
    Session,
    ProcessGroup,
    Descriptor(RawFd),
    ControllingTerminal,
    OomScoreAdj,
    Limit(Resource),
    Nice,
    Scheduling,
    Affinity,
    Groups,
    Gid,
    Uid,
    CurrentDir,
    NoNewPrivs,
    DeathSignal,
    Signal(i32),
    Execute,
}

/// What the child reports, in the memory that it shares with its parent.
#[derive(Clone, Copy, Default)]
pub(super) struct Report {
    /// The child has run.
    pub(super) started: bool,
    /// The step that failed, and the errno.
    pub(super) failure: Option<(Step, i32)>,
    /// The candidate that is being executed.
    pub(super) candidate: usize,
}

/// Everything that the child needs.
pub(super) struct Setup<'a> {
    pub(super) attributes: &'a Attributes,
    pub(super) descriptors: Mappings,
    /// The parent's pid, by which the child notices that the parent has ended. Used with a death
    /// signal only.
    pub(super) parent: i32,
    pub(super) mask: SignalMask,
    /// Whether the child has copies of the parent's signal handlers.
    pub(super) has_handlers: bool,
    /// The cgroup to start in. Only the parent uses it.
    pub(super) cgroup: Option<&'a CgroupLeaf>,
    /// Whether the child enters it by a write, although `clone3` could do it.
    pub(super) enters_cgroup: bool,
    /// Its `cgroup.procs`, if the child has to enter it.
    pub(super) cgroup_procs: Option<RawFd>,
    /// The paths to execute, and the one to try first.
    pub(super) candidates: &'a [*const c_char],
    pub(super) first_candidate: Option<usize>,
    pub(super) arguments: &'a [*const c_char],
    pub(super) environment: &'a [*const c_char],
    pub(super) report: Report,
}

/// The function that the child starts in. `setup` points to a [`Setup`].
pub(super) extern "C" fn main(setup: *mut c_void) -> c_int {
    // SAFETY: the parent's thread, which owns the value, is suspended until this child has executed
    // a program or ended.
    let setup = unsafe { &mut *setup.cast::<Setup<'_>>() };
    setup.report.started = true;
    let failure = match setup.prepare() {
        Ok(()) => (Step::Execute, setup.execute()),
        Err(failure) => failure,
    };
    setup.report.failure = Some(failure);
    // SAFETY: ends this child alone. The code is not reported to anybody.
    unsafe {
        libc::syscall(libc::SYS_exit_group, 127);
        libc::_exit(127)
    }
}

type Failure = (Step, i32);

fn at<T>(step: Step) -> impl Fn(rustix::io::Errno) -> Result<T, Failure> {
    move |errno| Err((step, errno.raw_os_error()))
}

impl Setup<'_> {
    /// Carries out the steps. What needs privileges comes before the change of the user, and what
    /// depends on the user after it.
    fn prepare(&mut self) -> Result<(), Failure> {
        if self.has_handlers {
            reset_handlers();
        }
        if let Some(procs) = self.cgroup_procs {
            write(procs, b"0").map_err(|errno| (Step::Cgroup, errno))?;
        }
        self.leave_group()?;
        self.descriptors
            .apply()
            .map_err(|(number, errno)| (Step::Descriptor(number), errno))?;
        if let Some(terminal) = self.attributes.controlling_terminal {
            // SAFETY: no pointers.
            let result = unsafe { libc::syscall(libc::SYS_ioctl, terminal, libc::TIOCSCTTY, 0) };
            checked(result).map_err(|errno| (Step::ControllingTerminal, errno))?;
        }
        self.set_limits()?;
        self.change_user()?;
        if let Some(mask) = self.attributes.umask {
            rustix::process::umask(Mode::from_raw_mode(mask & 0o777));
        }
        if let Some(directory) = self.attributes.current_dir.c_str(0) {
            rustix::process::chdir(directory).or_else(at(Step::CurrentDir))?;
        }
        if self.attributes.no_new_privs {
            rustix::thread::set_no_new_privs(true).or_else(at(Step::NoNewPrivs))?;
        }
        self.set_death_signal()?;
        self.set_signals()
    }

    fn leave_group(&self) -> Result<(), Failure> {
        match self.attributes.group {
            Group::Inherited => return Ok(()),
            Group::Join(group) => {
                // SAFETY: no pointers.
                let result = unsafe { libc::syscall(libc::SYS_setpgid, 0, group) };
                checked(result).map_err(|errno| (Step::ProcessGroup, errno))?;
            }
            Group::Session => {
                rustix::process::setsid()
                    .map(drop)
                    .or_else(at(Step::Session))?;
            }
        }
        // A signal that stops the old group may be pending, since all signals are blocked. Nobody
        // would continue this child after it has left the group. SIGCONT removes such signals
        // (signal(7)).
        if SignalMask::pending().intersects(&STOPS) {
            // SAFETY: no pointers. Not the C library's `getpid`, which may remember the parent's.
            unsafe {
                libc::syscall(
                    libc::SYS_kill,
                    libc::syscall(libc::SYS_getpid),
                    libc::SIGCONT,
                )
            };
        }
        Ok(())
    }

    fn set_limits(&self) -> Result<(), Failure> {
        let attributes = self.attributes;
        if let Some(value) = &attributes.oom_score_adj {
            set_oom_score_adj(value.as_bytes()).map_err(|errno| (Step::OomScoreAdj, errno))?;
        }
        for limit in &attributes.limits {
            let resource = limit.resource.as_rustix();
            let new = Rlimit {
                current: limit.soft,
                maximum: match limit.hard {
                    HardLimit::New(hard) => hard,
                    HardLimit::Unchanged => rustix::process::getrlimit(resource).maximum,
                },
            };
            rustix::process::setrlimit(resource, new).or_else(at(Step::Limit(limit.resource)))?;
        }
        if let Some(scheduling) = attributes.scheduling {
            let (policy, priority) = scheduling.policy();
            // SAFETY: the kernel reads one `int`, the only field of `struct sched_param` that it
            // knows.
            let result = unsafe {
                libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const priority)
            };
            checked(result).map_err(|errno| (Step::Scheduling, errno))?;
        }
        if let Some(value) = attributes.nice {
            rustix::process::setpriority_process(None, value).or_else(at(Step::Nice))?;
        }
        if let Some(cpus) = &attributes.affinity {
            rustix::thread::sched_setaffinity(None, cpus).or_else(at(Step::Affinity))?;
        }
        Ok(())
    }

    /// The system calls change the calling thread only, which is the only one of this child.
    fn change_user(&self) -> Result<(), Failure> {
        let attributes = self.attributes;
        match &attributes.groups {
            Some(groups) => {
                rustix::thread::set_thread_groups(groups).or_else(at(Step::Groups))?;
            }
            None if attributes.uid.is_some() => match rustix::thread::set_thread_groups(&[]) {
                // As in the standard library, groups that may not be changed are kept.
                Ok(()) | Err(rustix::io::Errno::PERM) => {}
                Err(errno) => return Err((Step::Groups, errno.raw_os_error())),
            },
            None => {}
        }
        if let Some(gid) = attributes.gid {
            rustix::thread::set_thread_res_gid(gid, gid, gid).or_else(at(Step::Gid))?;
        }
        if let Some(uid) = attributes.uid {
            rustix::thread::set_thread_res_uid(uid, uid, uid).or_else(at(Step::Uid))?;
        }
        Ok(())
    }

    /// After the change of the user, which clears the setting.
    fn set_death_signal(&self) -> Result<(), Failure> {
        let Some(signal) = self.attributes.death_signal else {
            return Ok(());
        };
        let result = {
            // SAFETY: no pointers.
            unsafe { libc::syscall(libc::SYS_prctl, libc::PR_SET_PDEATHSIG, signal, 0, 0, 0) }
        };
        checked(result).map_err(|errno| (Step::DeathSignal, errno))?;
        // If the parent has ended before, no signal comes. It has the number 0 for children in a new
        // pid namespace.
        let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
        match parent == self.parent || parent == 0 {
            true => Ok(()),
            false => Err((Step::DeathSignal, libc::ESRCH)),
        }
    }

    fn set_signals(&self) -> Result<(), Failure> {
        let signals = self.attributes.signals;
        let of_pipe = 1 << (libc::SIGPIPE - 1);
        let default = signals.default | (of_pipe & !signals.ignored);
        for (bits, action) in [(default, libc::SIG_DFL), (signals.ignored, libc::SIG_IGN)] {
            let mut left = bits;
            while left != 0 {
                let signal = left.trailing_zeros() as i32 + 1;
                left &= left - 1;
                // SIGKILL and SIGSTOP always have their default action.
                let fixed = [libc::SIGKILL, libc::SIGSTOP].contains(&signal);
                if !(fixed && action == libc::SIG_DFL) {
                    set_action(signal, action).map_err(|errno| (Step::Signal(signal), errno))?;
                }
            }
        }
        // No handler is left, so signals that arrived meanwhile have their default effect.
        match signals.blocked {
            Some(bits) => SignalMask::from_bits(bits).set(),
            None => self.mask.set(),
        }
        Ok(())
    }

    /// Executes the program. Returns the errno.
    fn execute(&mut self) -> i32 {
        if let Some(index) = self.first_candidate {
            match self.execute_candidate(index) {
                errno if is_elsewhere(errno) => {}
                errno => return errno,
            }
        }
        // As in `execvp(3)`: a file that may not be executed does not end the search, but is
        // reported if nothing else is found.
        let mut denied = false;
        let mut last = libc::ENOENT;
        for index in 0..self.candidates.len() {
            last = self.execute_candidate(index);
            denied |= last == libc::EACCES;
            if !is_elsewhere(last) {
                return last;
            }
        }
        match denied {
            true => libc::EACCES,
            false => last,
        }
    }

    fn execute_candidate(&mut self, index: usize) -> i32 {
        let Some(path) = self.candidates.get(index) else {
            return libc::ENOENT;
        };
        self.report.candidate = index;
        // SAFETY: the strings end with NUL, the arrays with a null pointer.
        let result = unsafe {
            libc::syscall(
                libc::SYS_execve,
                *path,
                self.arguments.as_ptr(),
                self.environment.as_ptr(),
            )
        };
        checked(result).err().unwrap_or(libc::ENOENT)
    }
}

/// Whether the search for the program goes on after this error.
fn is_elsewhere(errno: i32) -> bool {
    matches!(
        errno,
        libc::ENOENT | libc::ENOTDIR | libc::EACCES | libc::ESTALE | libc::ENODEV | libc::ETIMEDOUT
    )
}

/// Writes to `/proc/self`, which is this child.
///
/// Although the child shares the memory of its parent, the value is its own: the kernel leaves out
/// other users of the memory if the process was made by vfork (`__set_oom_adj`).
fn set_oom_score_adj(value: &[u8]) -> Result<(), i32> {
    const PATH: &CStr = c"/proc/self/oom_score_adj";
    // SAFETY: the path is a constant string.
    let file = checked(unsafe {
        libc::syscall(
            libc::SYS_openat,
            libc::AT_FDCWD,
            PATH.as_ptr(),
            libc::O_WRONLY | libc::O_CLOEXEC,
        )
    })?;
    // It closes when the program is executed.
    write(file, value)
}

fn write(file: RawFd, bytes: &[u8]) -> Result<(), i32> {
    // SAFETY: the bytes are valid for their length.
    checked(unsafe { libc::syscall(libc::SYS_write, file, bytes.as_ptr(), bytes.len()) }).map(drop)
}
