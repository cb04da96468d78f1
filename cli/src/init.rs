//! The first process of a container.
//!
//! Whatever loses its parent becomes a child of process 1, which has to reap it, or what has ended fills the limit of processes.
//! The signals that end others by themselves do nothing to it. So where the command would be process 1 it starts itself as a
//! child and stays behind as that, with nothing else to do: it reaps, passes signals on, and ends as the command has.

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{io, ptr};

use libc::{c_int, sigset_t};

use crate::descriptors::HANDOVER_VARIABLE;

/// Which process these are for: what they speak of is the command's.
const NAMES_OF_PROCESS: [&str; 2] = ["LISTEN_PID", "WATCHDOG_PID"];

/// The kernel sends these for what a process did itself.
const OF_ONES_OWN: [c_int; 7] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGSYS,
    libc::SIGABRT,
];
/// And these, when they come from the terminal, to the process group, which the command is in, too.
const OF_THE_GROUP: [c_int; 4] = [libc::SIGINT, libc::SIGQUIT, libc::SIGTSTP, libc::SIGWINCH];

/// Whether process 1 is ours.
static STAYED: AtomicBool = AtomicBool::new(false);

pub(crate) fn has_stayed() -> bool {
    STAYED.load(Ordering::Relaxed)
}

/// In process 1, comes back in a child of it only. Elsewhere it does nothing. For a process with one thread.
pub(crate) fn stay_behind() -> io::Result<()> {
    if std::process::id() != 1 || is_handed_over() {
        return Ok(());
    }
    let signals = all_but_ones_own();
    let mut before = MaybeUninit::uninit();
    // Before the child is there: its end is not missed. Even what is ignored, by us or because we are process 1, waits while it
    // is blocked.
    // SAFETY: both are sets, of which the second is written to.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, &signals, before.as_mut_ptr()) };
    // SAFETY: the call above has written it.
    let unblock = || unsafe {
        libc::sigprocmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut());
    };
    // SAFETY: there is one thread, so the child may do what any process may.
    match unsafe { libc::fork() } {
        -1 => {
            let error = io::Error::last_os_error();
            unblock();
            Err(error)
        }
        0 => {
            unblock();
            STAYED.store(true, Ordering::Relaxed);
            take_names();
            Ok(())
        }
        command => {
            // SAFETY: no handler is set; nothing here uses what is closed. Standard streams stay open for whoever writes to
            // the container's by way of /proc/1/fd.
            unsafe {
                libc::signal(libc::SIGCHLD, libc::SIG_DFL);
                libc::close_range(3, libc::c_uint::MAX, 0);
            }
            std::process::exit(tend(command, &signals))
        }
    }
}

/// Whether this is a service that executed itself anew as process 1, and has children already.
fn is_handed_over() -> bool {
    std::env::var(HANDOVER_VARIABLE).is_ok_and(|left| left.starts_with("1:"))
}

fn take_names() {
    let pid = std::process::id().to_string();
    for name in NAMES_OF_PROCESS {
        if std::env::var_os(name).is_some_and(|value| value == "1") {
            // SAFETY: there is one thread.
            unsafe { std::env::set_var(name, &pid) };
        }
    }
}

/// Until the command has ended; the exit code.
fn tend(command: libc::pid_t, signals: &sigset_t) -> c_int {
    loop {
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        // SAFETY: it reads a set and writes a `siginfo_t`, for which all zeroes is a value.
        let (signal, info) = unsafe {
            let signal = libc::sigwaitinfo(signals, info.as_mut_ptr());
            (signal, info.assume_init())
        };
        match signal {
            // Interrupted, by a stop.
            -1 => {}
            libc::SIGCHLD => {
                if let Some(code) = reap(command) {
                    return code;
                }
            }
            // The command has it from the terminal, too.
            _ if info.si_code == libc::SI_KERNEL && is_of_the_group(signal) => {}
            _ => {
                // SAFETY: it is a child of ours that was not reaped.
                unsafe { libc::kill(command, signal) };
            }
        }
    }
}

fn is_of_the_group(signal: c_int) -> bool {
    // When a terminal hangs up, that is for the leader of its session first, and for the group only once that has ended.
    // SAFETY: it takes a number and gives one.
    let leads = || unsafe { libc::getsid(0) == libc::getpid() };
    OF_THE_GROUP.contains(&signal) || (signal == libc::SIGHUP && !leads())
}

/// Reaps all that has ended; the exit code of the command, if it is among them.
fn reap(command: libc::pid_t) -> Option<c_int> {
    let mut code = None;
    loop {
        let mut status = 0;
        // SAFETY: the status is written to.
        let pid = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) };
        match pid {
            // None has ended, or there is none.
            0 | -1 => return code,
            _ if pid == command && libc::WIFSIGNALED(status) => {
                code = Some(128 + libc::WTERMSIG(status));
            }
            _ if pid == command => code = Some(libc::WEXITSTATUS(status)),
            _ => {}
        }
    }
}

fn all_but_ones_own() -> sigset_t {
    let mut signals = MaybeUninit::uninit();
    // SAFETY: the first call makes it a set, of which the others take what they name.
    unsafe {
        libc::sigfillset(signals.as_mut_ptr());
        for signal in OF_ONES_OWN {
            libc::sigdelset(signals.as_mut_ptr(), signal);
        }
        signals.assume_init()
    }
}
