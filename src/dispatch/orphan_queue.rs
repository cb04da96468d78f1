//! Where the exits of orphans go.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::sink::Sink;
use super::tagged_queue::ExitsQueue;
use crate::error::AddError;
use crate::sync::wait_graph::Node;
use crate::types::pid::Pid;

/// The queue of a watcher's orphans, once the program has asked for it.
///
/// One entry is always reserved, so that a receiver waits for the next orphan. The end of the
/// watcher releases it.
#[derive(Default)]
pub(crate) struct OrphanQueue(Mutex<Option<Open>>);

struct Open {
    /// Can be upgraded as long as the program has the receiver.
    queue: Weak<ExitsQueue>,
    ring_thread: Node,
    /// Keeps the queue outstanding.
    next: Sink,
}

impl OrphanQueue {
    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the queue, in place of an earlier one.
    pub(crate) fn open(&self, queue: &Arc<ExitsQueue>, ring_thread: Node) -> Result<(), AddError> {
        let open = Open {
            next: Sink::reserve(queue, 0, ring_thread, None)?,
            queue: Arc::downgrade(queue),
            ring_thread,
        };
        let before = self.lock().replace(open);
        drop(before);
        Ok(())
    }

    /// Reserves an entry for an orphan of this child; `None` if the program has no queue, or has
    /// dropped it.
    pub(crate) fn reserve(&self, leader: Pid) -> Result<Option<Sink>, AddError> {
        let mut state = self.lock();
        let Some(open) = &*state else {
            return Ok(None);
        };
        let Some(queue) = open.queue.upgrade() else {
            *state = None;
            return Ok(None);
        };
        let tag = leader.as_raw().unsigned_abs().into();
        Sink::reserve(&queue, tag, open.ring_thread, None).map(Some)
    }

    /// Reports the end of the watcher to the queue.
    pub(crate) fn close(&self) {
        let open = self.lock().take();
        if let Some(Open { next, .. }) = open {
            drop(next);
        }
    }
}
