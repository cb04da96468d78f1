//! The commands from callers to the ring thread.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::record::Record;
use crate::record::delivery_guard::DeliveryGuard;

/// How the process of a new watch is known.
pub(crate) enum Registered {
    /// By its pid: a child of ours for which no descriptor was available.
    Pid,
    /// By its pidfd.
    Pidfd(OwnedFd),
    /// By its pidfd, and the process had ended when it was registered.
    Ended(OwnedFd),
    /// By its pidfd, which was added to [`NewPidfds`](crate::backend::NewPidfds).
    Polled(OwnedFd),
}

impl Registered {
    pub(crate) fn has_pidfd(&self) -> bool {
        !matches!(self, Self::Pid)
    }
}

pub(crate) enum Command {
    /// Watch a process.
    Watch(DeliveryGuard, Registered),
    /// The child has a new deadline.
    Deadline(Arc<Record>),
    /// Stop watching: the watch is abandoned.
    Unwatch(Arc<Record>),
    /// The process has already ended; run the callbacks that were added since.
    Schedule(DeliveryGuard),
    /// The process has ended, which a worker has seen.
    Ended(Arc<Record>),
    /// The process has ended, but a worker could not read its status yet.
    Retry(DeliveryGuard, Option<OwnedFd>),
    /// Panic. For tests.
    #[cfg(test)]
    Panic,
}
