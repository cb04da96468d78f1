//! The stop flag of a watcher, and the handoff of its ring.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Shared by the watcher's handles and the ring.
#[derive(Default)]
pub(crate) struct Stop {
    stopping: AtomicBool,
    ring: Mutex<RingHandoff>,
}

/// A duplicate of the ring's descriptor, so that closing it is the last close of the ring.
///
/// If the thread that used the ring made the last close, the end of that thread would wait until
/// the kernel has removed every poll: 100 ms for 400,000 of them, because `io_ring_exit_work` and
/// `io_uring_files_cancel` need the same lock. When another thread makes the last close afterwards,
/// the kernel removes the polls in the background.
#[derive(Default)]
enum RingHandoff {
    #[default]
    Empty,
    Ring(#[expect(dead_code, reason = "kept to be closed")] OwnedFd),
    /// Nothing would close the duplicate any more.
    Refused,
}

impl Stop {
    /// Whether the watcher is being dropped. `Relaxed` is enough: a callback that begins in spite
    /// of this runs on a thread that the drop waits for.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Leaves a duplicate of the ring's descriptor to the thread that drops the watcher, if that
    /// will close it.
    pub(crate) fn hand_off_ring(&self, duplicate: impl FnOnce() -> Option<OwnedFd>) {
        let mut handoff = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_stopping() && matches!(*handoff, RingHandoff::Empty) {
            if let Some(ring) = duplicate() {
                *handoff = RingHandoff::Ring(ring);
            }
        }
    }

    /// Closes the duplicate. A ring thread that ends later closes its ring itself.
    pub(crate) fn close_ring(&self) {
        let mut handoff = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        *handoff = RingHandoff::Refused;
    }
}
