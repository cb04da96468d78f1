//! That the watcher ends, and what its ring thread leaves to be closed.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Shared by the watcher's handles and the ring.
#[derive(Default)]
pub(crate) struct Stop {
    stopping: AtomicBool,
    ring: Mutex<RingHandoff>,
}

/// A descriptor of the ring, as the last one of which it is closed. If the thread that used the ring closed it, that
/// thread would have to wait for its own end until the kernel has removed every poll, 100 ms for 400,000 of them
/// (`io_ring_exit_work` and `io_uring_files_cancel` want the same lock). Closed by another thread afterwards, it is
/// torn down by the kernel in the background.
#[derive(Default)]
enum RingHandoff {
    #[default]
    Empty,
    Ring(#[expect(dead_code, reason = "kept to be closed")] OwnedFd),
    /// It would not be closed any more.
    Refused,
}

impl Stop {
    /// Whether the watcher is being dropped. `Relaxed`: a callback that begins all the same is
    /// waited for, because its thread is.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Leaves a duplicate of the ring's descriptor to the thread that drops the watcher, if it will close it.
    pub(crate) fn hand_off_ring(&self, duplicate: impl FnOnce() -> Option<OwnedFd>) {
        let mut handoff = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_stopping() && matches!(*handoff, RingHandoff::Empty) {
            if let Some(ring) = duplicate() {
                *handoff = RingHandoff::Ring(ring);
            }
        }
    }

    /// Closes what was handoff. A ring thread that ends later closes its ring itself.
    pub(crate) fn close_ring(&self) {
        let mut handoff = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        *handoff = RingHandoff::Refused;
    }
}
