//! Ctrl-C: remembered, and looked at where something takes long.

use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on SIGINT, SIGTERM and SIGHUP are remembered, and `then` is called on a thread of its own.
pub(crate) fn remember(then: impl Fn() + Send + 'static) -> Result<()> {
    let handler = move || {
        INTERRUPTED.store(true, Ordering::SeqCst);
        then();
    };
    let hangup = |new: *const libc::sigaction| {
        let mut old = MaybeUninit::zeroed();
        // SAFETY: both point to a disposition or are null; all zeros is one.
        unsafe {
            libc::sigaction(libc::SIGHUP, new, old.as_mut_ptr());
            old.assume_init()
        }
    };
    let before: libc::sigaction = hangup(ptr::null());
    ctrlc::set_handler(handler).context("installing the handler for Ctrl-C")?;
    // Under nohup it stays ignored.
    if before.sa_sigaction == libc::SIG_IGN {
        hangup(&raw const before);
    }
    Ok(())
}

pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}
