//! The actions of signals in a child that has not executed a program yet.
//!
//! Raw system calls: the C library's `sigaction` takes a lock for `SIGABRT` (glibc from 2.41 on, and
//! musl), which would stay locked in the parent's memory if the child was killed meanwhile.

#![allow(unsafe_code, reason = "rt_sigaction")]

use std::ffi::{c_int, c_ulong};
use std::ptr;

/// The structure of `rt_sigaction(2)` on the architectures that the crate `io-uring` supports. Those
/// without a restorer have less, and the kernel reads and writes only that.
#[repr(C)]
#[derive(Default)]
struct KernelAction {
    handler: usize,
    flags: c_ulong,
    restorer: usize,
    mask: u64,
}

/// Resets every signal that has a handler to its default action. Without `CLONE_SIGHAND` the
/// processes do not share their actions, so this affects the child only. Async-signal-safe.
pub(super) fn reset_handlers() {
    for signal in 1..=libc::SIGRTMAX() {
        let mut action = KernelAction::default();
        // Failures (such as for SIGKILL) are harmless.
        if rt_sigaction(signal, None, Some(&mut action)).is_ok()
            && action.handler != libc::SIG_IGN
            && action.handler != libc::SIG_DFL
        {
            let _ = set_action(signal, libc::SIG_DFL);
        }
    }
}

/// Sets the action of a signal, `SIG_DFL` or `SIG_IGN`. Returns the errno. Async-signal-safe.
pub(super) fn set_action(signal: c_int, handler: libc::sighandler_t) -> Result<(), i32> {
    // No handler runs, so the action needs no restorer.
    let action = KernelAction {
        handler,
        ..KernelAction::default()
    };
    rt_sigaction(signal, Some(&action), None)
}

fn rt_sigaction(
    signal: c_int,
    new: Option<&KernelAction>,
    old: Option<&mut KernelAction>,
) -> Result<(), i32> {
    // SAFETY: each pointer is null or to a live structure, which is at least as large as the
    // kernel's.
    let result = unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            signal,
            new.map_or(ptr::null(), ptr::from_ref),
            old.map_or(ptr::null_mut(), ptr::from_mut),
            size_of::<u64>(),
        )
    };
    match result {
        0 => Ok(()),
        // SAFETY: the location of errno, which the thread shares with nobody while this child runs.
        _ => Err(unsafe { *libc::__errno_location() }),
    }
}
