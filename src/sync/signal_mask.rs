//! Which signals the watcher's own threads block, and when.
//!
//! While they do our work, all that are sent to the process: those are for the program's threads. What a thread brings upon
//! itself is left alone ([`SignalMask::block_asynchronous`]).
//!
//! While they run code of the user's, the mask is the one that the builder's thread had ("lent"). A child inherits the mask
//! of the thread that makes it, in every way there is of making one: `posix_spawn` and `fork`, with which the standard
//! library starts a command without setting the mask, the bare system call, a thread that goes on to make one. Of those only `fork`
//! calls a handler that could set it right (`pthread_atfork(3)`), so what is there to inherit has to be right.
//!
//! The mask is set back when the thread is about to sleep, not after each callback: in a storm of exits this costs no
//! system call, and else two for each wake-up.

use std::cell::Cell;
use std::io;
use std::thread::{Builder, JoinHandle};

use crate::sys::SignalMask;

thread_local! {
    /// The builder's mask and this thread's own, if it is a watcher's.
    static MASKS: Cell<Option<(SignalMask, SignalMask)>> = const { Cell::new(None) };
    static BUILDER_MASK_ACTIVE: Cell<bool> = const { Cell::new(false) };
}

/// Starts a thread that blocks what ours block, from its first instruction.
pub(crate) fn start_thread(
    builder: Builder,
    run: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    // Threads are born with the mask of the one that starts them.
    let _blocked = SignalMask::block_asynchronous();
    builder.spawn(run)
}

/// Runs `f`, the whole of a thread made by [`start_thread`], and of what the user's code that runs in it has left behind.
///
/// `builders`: the mask that this thread lends.
pub(crate) fn with_builder_mask<T>(builders: SignalMask, f: impl FnOnce() -> T) -> T {
    MASKS.set(Some((builders, SignalMask::of_this_thread())));
    let value = f();
    // For the destructors of the user's thread-local variables, which run after this.
    lend();
    value
}

/// Called before code of the user's is run or dropped. On a thread that is no watcher's it does nothing.
pub(crate) fn lend() {
    if !BUILDER_MASK_ACTIVE.get()
        && let Some((builders, _)) = MASKS.get()
    {
        BUILDER_MASK_ACTIVE.set(true);
        builders.set();
    }
}

/// Called before the thread sleeps.
pub(crate) fn restore_own_mask() {
    if BUILDER_MASK_ACTIVE.get()
        && let Some((_, own)) = MASKS.get()
    {
        BUILDER_MASK_ACTIVE.set(false);
        own.set();
    }
}
