//! The actions of signals in a child that has not executed a program yet.

#![allow(unsafe_code, reason = "sigaction")]

use std::mem;
use std::ptr;

/// Resets every signal that has a handler to its default action. Without `CLONE_SIGHAND` the
/// processes do not share their actions, so this affects the child only. Async-signal-safe.
pub(super) fn reset_handlers() {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: a plain C structure that is filled before it is read. Failures (such as for
        // SIGKILL) are harmless.
        unsafe {
            let mut action: libc::sigaction = mem::zeroed();
            if libc::sigaction(signal, ptr::null(), &raw mut action) == 0
                && action.sa_sigaction != libc::SIG_IGN
                && action.sa_sigaction != libc::SIG_DFL
            {
                let _ = set_action(signal, libc::SIG_DFL);
            }
        }
    }
}

/// Sets the action of a signal, `SIG_DFL` or `SIG_IGN`. Returns the errno. Async-signal-safe.
pub(super) fn set_action(signal: i32, action: libc::sighandler_t) -> Result<(), i32> {
    // SAFETY: a plain C structure for which zeroes are valid.
    let mut new: libc::sigaction = unsafe { mem::zeroed() };
    new.sa_sigaction = action;
    // SAFETY: the structure is initialised, and no function is named in it.
    match unsafe { libc::sigaction(signal, &raw const new, ptr::null_mut()) } {
        0 => Ok(()),
        // SAFETY: the location of errno, which the thread shares with nobody while this child runs.
        _ => Err(unsafe { *libc::__errno_location() }),
    }
}
