//! The first process of a container.
//!
//! Orphans become children of process 1. It has to reap them, or zombies exhaust the limit on
//! processes. Signals whose default action ends a process have no effect on process 1. So where the
//! command would be process 1, it forks: the child is the command, and process 1 only reaps,
//! forwards signals, and exits with the exit code of the command.

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{io, ptr};

use libc::{c_int, sigset_t};

use crate::descriptors::HANDOVER_VARIABLE;

/// Variables with the pid of the process that they address, which is the command.
const PID_VARIABLES: [&str; 2] = ["LISTEN_PID", "WATCHDOG_PID"];

/// Signals that a process causes by its own actions.
const SYNCHRONOUS: [c_int; 7] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGSYS,
    libc::SIGABRT,
];
/// Signals that a terminal sends to the whole foreground group, so that the command gets them, too.
const TERMINAL: [c_int; 4] = [libc::SIGINT, libc::SIGQUIT, libc::SIGTSTP, libc::SIGWINCH];

/// Whether process 1 is this program, as init.
static RUNNING: AtomicBool = AtomicBool::new(false);

pub(crate) fn is_running() -> bool {
    RUNNING.load(Ordering::Relaxed)
}

/// Runs init in process 1, and returns in a child of it. In any other process it does nothing.
///
/// The process must have one thread.
pub(crate) fn run_in_process_1() -> io::Result<()> {
    if std::process::id() != 1 || is_reexecuted_service() {
        return Ok(());
    }
    let signals = asynchronous_signals();
    let mut before = MaybeUninit::uninit();
    // Before the fork, so that the end of the child is not missed. A blocked signal stays pending
    // even if process 1 ignores it.
    // SAFETY: both pointers are to sets; the call writes to the second.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, &signals, before.as_mut_ptr()) };
    // SAFETY: the call above has initialised the set.
    let unblock = || unsafe {
        libc::sigprocmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut());
    };
    // SAFETY: there is one thread, so the child may do whatever a process may.
    match unsafe { libc::fork() } {
        -1 => {
            let error = io::Error::last_os_error();
            unblock();
            Err(error)
        }
        0 => {
            unblock();
            RUNNING.store(true, Ordering::Relaxed);
            address_command();
            Ok(())
        }
        command => {
            // Standard streams stay open for programs that write to those of the container through
            // /proc/1/fd.
            // SAFETY: no handler is set; this process uses none of the descriptors that are closed.
            unsafe {
                libc::signal(libc::SIGCHLD, libc::SIG_DFL);
                libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0);
            }
            std::process::exit(supervise(command, &signals))
        }
    }
}

/// Whether this is a service that executed itself again as process 1, and has children already.
fn is_reexecuted_service() -> bool {
    std::env::var(HANDOVER_VARIABLE).is_ok_and(|left| left.starts_with("1:"))
}

/// Sets the pid of the command in the variables that address process 1.
fn address_command() {
    let pid = std::process::id().to_string();
    for name in PID_VARIABLES {
        if std::env::var_os(name).is_some_and(|value| value == "1") {
            // SAFETY: there is one thread.
            unsafe { std::env::set_var(name, &pid) };
        }
    }
}

/// Reaps and forwards signals until the command ends. Returns its exit code.
fn supervise(command: libc::pid_t, signals: &sigset_t) -> c_int {
    loop {
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        // SAFETY: the call reads a set and writes a `siginfo_t`, of which all zeroes is a valid
        // value.
        let (signal, info) = unsafe {
            let signal = libc::sigwaitinfo(signals, info.as_mut_ptr());
            (signal, info.assume_init())
        };
        match signal {
            // Interrupted, by a stop and a continue.
            -1 => {}
            libc::SIGCHLD => {
                if let Some(code) = reap(command) {
                    return code;
                }
            }
            // The terminal sent it to the command, too.
            _ if info.si_code == libc::SI_KERNEL && is_sent_to_group(signal) => {}
            _ => {
                // SAFETY: the pid is that of a child that is not reaped.
                unsafe { libc::kill(command, signal) };
            }
        }
    }
}

fn is_sent_to_group(signal: c_int) -> bool {
    // When a terminal hangs up, the kernel signals the leader of its session first, and the group
    // only once the leader has ended.
    // SAFETY: both calls take and return numbers.
    let leads = || unsafe { libc::getsid(0) == libc::getpid() };
    TERMINAL.contains(&signal) || (signal == libc::SIGHUP && !leads())
}

/// Reaps all children that have ended. Returns the exit code of the command if it is among them.
fn reap(command: libc::pid_t) -> Option<c_int> {
    let mut code = None;
    loop {
        let mut status = 0;
        // SAFETY: the call writes to the status.
        let pid = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) };
        match pid {
            // No child has ended, or there is none.
            0 | -1 => return code,
            _ if pid == command && libc::WIFSIGNALED(status) => {
                code = Some(128 + libc::WTERMSIG(status));
            }
            _ if pid == command => code = Some(libc::WEXITSTATUS(status)),
            _ => {}
        }
    }
}

fn asynchronous_signals() -> sigset_t {
    let mut signals = MaybeUninit::uninit();
    // SAFETY: the first call initialises the set; the others remove signals from it.
    unsafe {
        libc::sigfillset(signals.as_mut_ptr());
        for signal in SYNCHRONOUS {
            libc::sigdelset(signals.as_mut_ptr(), signal);
        }
        signals.assume_init()
    }
}
