//! What is done about signals, and which are blocked: a program inherits both from whatever starts it, and sets its own.

use std::io;
use std::mem;

use rustix::process::{Signal, kill_current_process_group};

/// What starts us has these ignored on purpose, and so they stay: SIGHUP by `nohup`, SIGINT and SIGQUIT in the background of a
/// script, SIGTSTP where there is no job control; SIGUSR2 by a service that executes itself anew.
const KEPT: [i32; 5] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTSTP,
    libc::SIGUSR2,
];

/// Whatever was ignored (but what is kept) is not any more, and nothing is blocked: with SIGCHLD ignored the kernel keeps no
/// status of a child, and what ignores or blocks SIGTERM does not hear of it, and passes that on to all that it starts. To be
/// called before there is another thread, for threads inherit what is blocked.
pub(crate) fn set_own() {
    for signal in all() {
        // The standard library ignores SIGPIPE itself, and not in what it starts.
        let kept = KEPT.contains(&signal) || signal == libc::SIGPIPE;
        if signal == libc::SIGCHLD || !kept && is_ignored(signal) {
            let _ = set_default(signal);
        }
    }
    // SAFETY: the set is filled before it is used; where to put the old one is not given.
    unsafe {
        let mut none: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Every signal that is not the C library's own.
pub(crate) fn all() -> impl Iterator<Item = i32> {
    (1..32).chain(libc::SIGRTMIN()..=libc::SIGRTMAX())
}

pub(crate) fn is_ignored(signal: i32) -> bool {
    action(signal).is_ok_and(|action| action.sa_sigaction == libc::SIG_IGN)
}

/// Has a signal do to us what it does to a program that knows nothing of it, and then handles it again as before. SIGTSTP stops
/// us here, but not where nobody could have us go on.
pub(crate) fn obey(signal: i32) -> io::Result<()> {
    by_default(signal, || signal_hook::low_level::raise(signal))
}

/// The same for our whole process group, which a Ctrl-Z that came to another group did not reach: a shell has its prompt again when
/// all of a pipeline, and a script that runs us, are stopped.
pub(crate) fn obey_with_group(signal: Signal) -> io::Result<()> {
    by_default(signal.as_raw(), || Ok(kill_current_process_group(signal)?))
}

fn by_default(signal: i32, raise: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let ours = set_default(signal)?;
    let raised = raise();
    // SAFETY: the action is the one that was there before.
    unsafe { libc::sigaction(signal, &raw const ours, std::ptr::null_mut()) };
    raised
}

/// Blocks a signal in this thread, or not any more.
pub(crate) fn block(signal: i32, blocked: bool) {
    let how = match blocked {
        true => libc::SIG_BLOCK,
        false => libc::SIG_UNBLOCK,
    };
    // SAFETY: the set is filled before it is used; where to put the old one is not given.
    unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        libc::pthread_sigmask(how, &raw const set, std::ptr::null_mut());
    }
}

fn action(signal: i32) -> io::Result<libc::sigaction> {
    // SAFETY: a plain C structure for which all zeroes is a valid value; the call only writes the current action into it.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        match libc::sigaction(signal, std::ptr::null(), &raw mut action) {
            0 => Ok(action),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// Gives what was there before.
fn set_default(signal: i32) -> io::Result<libc::sigaction> {
    // SAFETY: no handler is installed; a zeroed action has no flags, an empty mask, and SIG_DFL.
    unsafe {
        let mut before: libc::sigaction = mem::zeroed();
        let default: libc::sigaction = mem::zeroed();
        match libc::sigaction(signal, &raw const default, &raw mut before) {
            0 => Ok(before),
            _ => Err(io::Error::last_os_error()),
        }
    }
}
