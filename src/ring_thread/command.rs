//! The commands from callers to the ring thread.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::record::Record;
use crate::record::delivery_guard::DeliveryGuard;

pub(crate) enum Command {
    /// Watch the process behind the pidfd.
    Watch(DeliveryGuard, OwnedFd),
    /// Watch this child of ours, which is to be reaped.
    Own(DeliveryGuard),
    /// The child has a new deadline.
    Deadline(Arc<Record>),
    /// Stop watching: the watch is abandoned.
    Unwatch(Arc<Record>),
    /// The process has already ended; run the callbacks that were added since.
    Schedule(DeliveryGuard),
    /// Panic. For tests.
    #[cfg(test)]
    Panic,
}
