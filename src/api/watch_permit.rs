//! A permit for one more watch, which counts against the limit of a watcher.

use crate::error::WatchError;
use crate::shared::Shared;

/// A permit for one watch, within [`Builder::max_watches`](crate::Builder::max_watches).
///
/// Dropping it returns the permit. The permit of a watch that was registered is returned when its
/// exit is dispatched: by the ring thread, or by the worker that has read the exit.
pub(crate) struct WatchPermit<'a>(&'a Shared);

impl<'a> WatchPermit<'a> {
    pub(crate) fn acquire(shared: &'a Shared) -> Result<Self, WatchError> {
        let limit = shared.settings.max_watches;
        if shared.counters.watched.add_one_within(limit as u64) {
            return Ok(Self(shared));
        }
        // If the watcher is closed, a retry is of no use: no watch ends any more.
        shared.check_open()?;
        Err(WatchError::TooMany { limit })
    }

    /// Leaves the permit to the ring thread.
    pub(crate) fn forget(self) {
        std::mem::forget(self);
    }
}

impl Drop for WatchPermit<'_> {
    fn drop(&mut self) {
        self.0.counters.watched.sub(1);
    }
}
