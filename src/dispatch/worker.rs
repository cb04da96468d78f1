//! The worker threads, which run callbacks.

use crate::dispatch::queued::Queued;
use crate::shared::Shared;
use crate::sync::signal_mask;
use crate::sync::wait_graph::{self, Node};

/// Pops ended processes from the queue and runs their callbacks, until the queue is closed.
pub(crate) fn run(shared: &Shared, me: Node) {
    let next = || {
        shared.queue.try_pop(Queued::prefetch).or_else(|| {
            signal_mask::restore_own_mask();
            shared.queue.pop()
        })
    };
    signal_mask::with_builder_mask(shared.signal_mask, || {
        wait_graph::as_thread(me, &shared.stop, || {
            while let Some(popped) = next() {
                if popped.wake_producer {
                    shared.mailbox.wake_reader();
                }
                if let Some(guard) = popped.value.into_exit(shared) {
                    guard.run_callbacks(shared, Some(popped.queued_at));
                }
            }
        });
    });
}
