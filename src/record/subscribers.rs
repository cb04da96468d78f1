//! Futures and queues to notify of an exit.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

use slab::Slab;

use crate::dispatch::sink::Sink;
use crate::sync::signal_mask;
use crate::types::exit::Exit;

/// Where a record keeps the waker of a future.
pub(crate) type WakerKey = Option<usize>;

/// Removed from a record under its lock, to be notified without the lock.
#[derive(Default)]
pub(crate) struct Subscribers {
    pub(super) wakers: Slab<Waker>,
    pub(super) sinks: Vec<Sink>,
}

impl Subscribers {
    /// Notifies all of them. `None`: the exit will not come.
    pub(crate) fn notify(self, exit: Option<&Exit>) {
        for sink in self.sinks {
            match exit {
                Some(exit) => sink.deliver(exit),
                None => drop(sink),
            }
        }
        if !self.wakers.is_empty() {
            signal_mask::apply_builder_mask();
        }
        for (_, waker) in self.wakers {
            // The executor's code runs on this thread.
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
                drop_catching_panics(payload);
            }
        }
    }
}

/// Drops a user's value whose `Drop` may panic.
pub(crate) fn drop_catching_panics<T>(value: T) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        // Dropping the payload could panic again.
        std::mem::forget(payload);
    }
}
