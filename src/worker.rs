//! The threads that run callbacks.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::callback::CallbackId;
use crate::shared::Shared;

/// Takes ended processes from the queue and runs their callbacks, until the queue is closed.
pub(crate) fn run(shared: &Shared, runner: &Runner) {
    while let Some(popped) = shared.queue.pop() {
        if popped.tell_producer {
            shared.mailbox.nudge();
        }
        popped.value.run_callbacks(shared, runner);
    }
}

/// A thread that runs callbacks, as others see it: which callback it is in.
#[derive(Default)]
pub(crate) struct Runner(AtomicU64);

impl Runner {
    /// `SeqCst`, as the look at the stop flag that follows: either the one who stops the
    /// watcher sees this callback, or the runner sees that it is stopped and does not begin it.
    pub(crate) fn enter(&self, id: CallbackId) {
        self.0.store(id.get().get(), Ordering::SeqCst);
    }

    pub(crate) fn leave(&self) {
        self.0.store(0, Ordering::SeqCst);
    }

    /// The callback that runs, if one does.
    pub(crate) fn current(&self) -> Option<CallbackId> {
        CallbackId::from_raw(self.0.load(Ordering::SeqCst))
    }
}
