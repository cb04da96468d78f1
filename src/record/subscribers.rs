//! Futures and queues, which are told of an exit besides callbacks and threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

use slab::Slab;

use crate::Exit;
use crate::api::exits::Sink;
use crate::sync::signal_mask;

/// Taken out from under the lock, to be told.
#[derive(Default)]
pub(crate) struct Subscribers {
    pub(super) wakers: Slab<Waker>,
    pub(super) sinks: Vec<Sink>,
}

impl Subscribers {
    /// `None`: the exit will not come.
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
            // An executor's code, on our thread.
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
                drop_catching_panics(payload);
            }
        }
    }
}

/// Drops a value of the user's whose `Drop` may panic.
pub(crate) fn drop_catching_panics<T>(value: T) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        // Its drop could panic again.
        std::mem::forget(payload);
    }
}
