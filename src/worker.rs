//! The threads that run callbacks.

use crate::shared::Shared;
use crate::wait_graph::{self, Node};

/// Takes ended processes from the queue and runs their callbacks, until the queue is closed.
pub(crate) fn run(shared: &Shared, me: Node) {
    wait_graph::as_thread(me, || {
        while let Some(popped) = shared.queue.pop() {
            if popped.tell_producer {
                shared.mailbox.nudge();
            }
            popped.value.run_callbacks(shared, Some(popped.queued_at));
        }
    });
}
