//! A reserved entry of a queue of exits.

use std::sync::{Arc, Weak};

use super::tagged_queue::{ExitsQueue, KeptWatch, Tagged, WatchKey};
use crate::error::AddError;
use crate::sync::wait_graph::Node;
use crate::types::exit::Exit;

/// A reserved entry of a queue, for one exit.
///
/// A sink that is dropped without an exit releases the entry and reports [`Closed`](crate::Closed)
/// to the queue. It does not keep a queue that the program has dropped.
pub(crate) struct Sink {
    /// `None` once the entry was filled or released.
    queue: Option<Weak<ExitsQueue>>,
    /// The ring thread that is to deliver the exit.
    ring_thread: Node,
    tag: u64,
    /// Where the queue keeps the watch.
    watch: WatchKey,
}

impl Sink {
    pub(crate) fn reserve(
        queue: &Arc<ExitsQueue>,
        tag: u64,
        ring_thread: Node,
        kept: Option<KeptWatch>,
    ) -> Result<Self, AddError> {
        let watch = queue.reserve(ring_thread, kept)?;
        Ok(Self {
            queue: Some(Arc::downgrade(queue)),
            ring_thread,
            tag,
            watch,
        })
    }

    /// Whether the program still has the queue.
    pub(crate) fn has_receiver(&self) -> bool {
        let queue = self.queue.as_ref().and_then(Weak::upgrade);
        queue.is_some_and(|queue| queue.has_receiver())
    }

    /// The queue, if it is there and the entry is neither filled nor released.
    fn take_queue(&mut self) -> Option<Arc<ExitsQueue>> {
        self.queue.take()?.upgrade()
    }

    /// Fills the entry. Never waits for capacity, which is reserved.
    pub(crate) fn deliver(mut self, exit: &Exit) {
        if let Some(queue) = self.take_queue() {
            let tagged = Tagged {
                tag: self.tag,
                exit: exit.clone(),
            };
            queue.deliver(self.ring_thread, self.watch, tagged);
        }
    }

    /// Releases the entry and reports nothing, because the watch was not added.
    pub(crate) fn release(mut self) {
        if let Some(queue) = self.take_queue() {
            queue.release(self.ring_thread, self.watch);
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if let Some(queue) = self.take_queue() {
            queue.close(self.ring_thread, self.watch);
        }
    }
}
