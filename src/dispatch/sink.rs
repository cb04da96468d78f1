//! A reserved entry of a queue of exits.

use std::sync::Arc;

use super::tagged_queue::{ExitsQueue, Tagged};
use crate::error::AddError;
use crate::sync::wait_graph::Node;
use crate::types::exit::Exit;

/// A reserved entry of a queue, for one exit.
///
/// A sink that is dropped without an exit releases the entry and reports [`Closed`](crate::Closed)
/// to the queue.
pub(crate) struct Sink {
    /// `None` once the entry was filled or released.
    queue: Option<Arc<ExitsQueue>>,
    /// The ring thread that is to deliver the exit.
    ring_thread: Node,
    tag: u64,
}

impl Sink {
    pub(crate) fn reserve(
        queue: &Arc<ExitsQueue>,
        tag: u64,
        ring_thread: Node,
    ) -> Result<Self, AddError> {
        queue.reserve(ring_thread)?;
        Ok(Self {
            queue: Some(Arc::clone(queue)),
            ring_thread,
            tag,
        })
    }

    /// Fills the entry. Never waits for capacity, which is reserved.
    pub(crate) fn deliver(mut self, exit: &Exit) {
        if let Some(queue) = self.queue.take() {
            let tagged = Tagged {
                tag: self.tag,
                exit: exit.clone(),
            };
            queue.deliver(self.ring_thread, tagged);
        }
    }

    /// Releases the entry and reports nothing, because the watch was not added.
    pub(crate) fn release(mut self) {
        if let Some(queue) = self.queue.take() {
            queue.release(self.ring_thread);
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.take() {
            queue.close(self.ring_thread);
        }
    }
}
