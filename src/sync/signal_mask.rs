//! The signal masks of the threads of a watcher.
//!
//! While such a thread runs code of this crate, it blocks all signals that are sent to the process:
//! those are for the threads of the program. It does not block signals that a thread raises itself
//! ([`SignalMask::block_asynchronous`]).
//!
//! While it runs code of the user (callbacks, wakers, destructors of captures), its mask is the
//! *builder mask*, which the thread that built the watcher had. A child inherits the mask of the
//! thread that makes it, whichever way it is made: by `posix_spawn` or `fork`, with which the
//! standard library starts a command without setting the mask, by the plain system call, or by a
//! thread that the thread starts first. Of these only `fork` calls a handler that could set the
//! mask (`pthread_atfork(3)`), so the mask of the thread itself must be right.
//!
//! The mask is restored when the thread is about to sleep, not after each callback. In a burst of
//! exits this costs no system call; otherwise it costs two for each wake-up.

use std::cell::Cell;
use std::io;
use std::thread::{Builder, JoinHandle};

use crate::sys::SignalMask;

thread_local! {
    /// The builder mask, and the mask with which this thread was started. `None` on threads that do
    /// not belong to a watcher.
    static MASKS: Cell<Option<(SignalMask, SignalMask)>> = const { Cell::new(None) };
    static BUILDER_MASK_ACTIVE: Cell<bool> = const { Cell::new(false) };
}

/// Starts a thread that blocks asynchronous signals from its first instruction on.
pub(crate) fn start_thread(
    builder: Builder,
    run: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    // A thread inherits the mask of the thread that starts it.
    let _blocked = SignalMask::block_asynchronous();
    builder.spawn(run)
}

/// Runs `f`, which is all that a thread made by [`start_thread`] does, and sets the mask that
/// [`apply_builder_mask`] applies on this thread.
pub(crate) fn with_builder_mask<T>(builder_mask: SignalMask, f: impl FnOnce() -> T) -> T {
    MASKS.set(Some((builder_mask, SignalMask::of_this_thread())));
    let value = f();
    // For the destructors of the user's thread-local variables, which run later.
    apply_builder_mask();
    value
}

/// Applies the builder mask. Called before code of the user runs or is dropped. It has no effect on
/// a thread that does not belong to a watcher.
pub(crate) fn apply_builder_mask() {
    if BUILDER_MASK_ACTIVE.get() {
        return;
    }
    if let Some((builder_mask, _)) = MASKS.get() {
        BUILDER_MASK_ACTIVE.set(true);
        builder_mask.set();
    }
}

pub(crate) fn is_builder_mask_active() -> bool {
    BUILDER_MASK_ACTIVE.get()
}

/// Restores the mask with which the thread was started. Called before the thread sleeps.
pub(crate) fn restore_own_mask() {
    if !BUILDER_MASK_ACTIVE.get() {
        return;
    }
    if let Some((_, own_mask)) = MASKS.get() {
        BUILDER_MASK_ACTIVE.set(false);
        own_mask.set();
    }
}
