//! Records an interrupt (Ctrl-C). Long operations poll it.

use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Installs a handler that records SIGINT, SIGTERM and SIGHUP and calls `then` on its own thread.
pub(crate) fn install_handler(then: impl Fn() + Send + 'static) -> Result<()> {
    let handler = move || {
        INTERRUPTED.store(true, Ordering::SeqCst);
        then();
    };
    let hangup = |new: *const libc::sigaction| {
        let mut old = MaybeUninit::zeroed();
        // SAFETY: both point to a sigaction or are null. A zeroed sigaction is valid.
        unsafe {
            libc::sigaction(libc::SIGHUP, new, old.as_mut_ptr());
            old.assume_init()
        }
    };
    let before: libc::sigaction = hangup(ptr::null());
    ctrlc::set_handler(handler).context("installing the handler for Ctrl-C")?;
    // A SIGHUP that was ignored before stays ignored (nohup).
    if before.sa_sigaction == libc::SIG_IGN {
        hangup(&raw const before);
    }
    Ok(())
}

pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}
