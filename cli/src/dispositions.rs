//! Dispositions of signals and the signal mask. A program inherits both from its parent; this one
//! resets them, and raises signals with their default action.

use std::io;
use std::mem;

use rustix::process::{Signal, kill_current_process_group};

/// Signals that stay ignored, because the parent ignores them on purpose: SIGHUP by `nohup`, SIGINT
/// and SIGQUIT in the background of a script, SIGTSTP where there is no job control, SIGUSR2 by a
/// service that executes itself again.
const KEPT: [i32; 5] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTSTP,
    libc::SIGUSR2,
];

/// Resets inherited dispositions to the default, except [`KEPT`] ones, and unblocks all signals.
///
/// With SIGCHLD ignored the kernel keeps no status of a child. A process that ignores or blocks
/// SIGTERM cannot be ended by it, and its children inherit that. Call this before a second thread
/// starts, because threads inherit the signal mask.
pub(crate) fn reset() {
    for signal in all() {
        // The standard library ignores SIGPIPE, and resets it in the children that it spawns.
        let kept = KEPT.contains(&signal) || signal == libc::SIGPIPE;
        if signal == libc::SIGCHLD || !kept && is_ignored(signal) {
            let _ = set_default(signal);
        }
    }
    // SAFETY: the set is initialised before it is used; the pointer to the old set may be null.
    unsafe {
        let mut none: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// All signals, except those that the C library reserves.
pub(crate) fn all() -> impl Iterator<Item = i32> {
    (1..32).chain(libc::SIGRTMIN()..=libc::SIGRTMAX())
}

pub(crate) fn is_ignored(signal: i32) -> bool {
    action(signal).is_ok_and(|action| action.sa_sigaction == libc::SIG_IGN)
}

/// Raises a signal with its default action, then restores the handler. SIGTSTP stops this process,
/// unless its process group is orphaned, so that no shell could continue it.
pub(crate) fn raise_default(signal: i32) -> io::Result<()> {
    by_default(signal, || signal_hook::low_level::raise(signal))
}

/// Sends a signal to this process group, with its default action for this process. A Ctrl-Z that
/// went to another group did not reach this one; a shell shows its prompt again once the whole
/// pipeline, and the script that runs this command, are stopped.
pub(crate) fn raise_default_in_group(signal: Signal) -> io::Result<()> {
    by_default(signal.as_raw(), || Ok(kill_current_process_group(signal)?))
}

fn by_default(signal: i32, raise: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let before = set_default(signal)?;
    let raised = raise();
    // SAFETY: the action is the one that `set_default` replaced.
    unsafe { libc::sigaction(signal, &raw const before, std::ptr::null_mut()) };
    raised
}

/// Blocks a signal in this thread, or unblocks it.
pub(crate) fn block(signal: i32, blocked: bool) {
    let how = match blocked {
        true => libc::SIG_BLOCK,
        false => libc::SIG_UNBLOCK,
    };
    // SAFETY: the set is initialised before it is used; the pointer to the old set may be null.
    unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        libc::pthread_sigmask(how, &raw const set, std::ptr::null_mut());
    }
}

fn action(signal: i32) -> io::Result<libc::sigaction> {
    // SAFETY: all zeroes is a valid value of this C structure; the call only writes the current
    // action into it.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        match libc::sigaction(signal, std::ptr::null(), &raw mut action) {
            0 => Ok(action),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// Sets the default action. Returns the action that it replaces.
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
