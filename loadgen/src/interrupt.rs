//! Ctrl-C: remembered, and looked at where something takes long.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on SIGINT, SIGTERM and SIGHUP are remembered, and `then` is called on a thread of its own.
pub(crate) fn remember(then: impl Fn() + Send + 'static) -> Result<()> {
    let handler = move || {
        INTERRUPTED.store(true, Ordering::SeqCst);
        then();
    };
    ctrlc::set_handler(handler).context("installing the handler for Ctrl-C")
}

pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}
