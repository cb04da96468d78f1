//! The exit of a process whose status has not been read yet.
//!
//! The ring thread reads it, or a worker that will run the callbacks.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use crate::backend::{PID_REUSE_MIN, StatusSource};
use crate::record::Record;
use crate::record::delivery_guard::{DeliveryGuard, Reaped};
use crate::ring_thread::status_query::{self, QueryResult};
use crate::sys::{self, WaitTarget};
use crate::types::exit::Outcome;

pub(crate) struct UnreadExit {
    pub(crate) guard: DeliveryGuard,
    pub(crate) source: StatusSource,
    /// When the ring thread saw that the process had ended.
    pub(crate) seen_at: Instant,
    /// Whether the process may have ended so long before that its pid is in use again. Something
    /// else must have reaped it for that. User code can cause this, before the wait or since.
    pub(crate) maybe_reused: bool,
}

/// The result of a read. Pidfds that it returns are to be closed.
pub(crate) enum ReadExit {
    /// The exit is stored.
    Stored {
        record: Arc<Record>,
        outcome: Outcome,
        /// Returned if there are callbacks to run.
        guard: Option<DeliveryGuard>,
        pidfd: Option<OwnedFd>,
    },
    /// The status is not available yet. It must be read again later.
    NotYet(DeliveryGuard, Option<OwnedFd>),
}

impl UnreadExit {
    /// Whether this is a child of ours of which a later read can tell whether its pid is in use
    /// again.
    pub(super) fn is_identified_child(&self) -> bool {
        match &self.source {
            StatusSource::Owned { pidfd, inode, .. } => pidfd.is_some() || inode.is_some(),
            _ => false,
        }
    }

    /// Reads the status, and the usage if `with_usage` is set. Stores the exit in the record, and
    /// notifies those that wait for it.
    pub(crate) fn read(self, with_usage: bool) -> ReadExit {
        let Self {
            guard,
            source,
            seen_at,
            maybe_reused: late,
        } = self;
        match source {
            StatusSource::Owned {
                pidfd,
                inode,
                maybe_reused,
            } => {
                let check = maybe_reused || late || seen_at.elapsed() > PID_REUSE_MIN;
                reap(guard, pidfd, inode.filter(|_| check), with_usage, seen_at)
            }
            source => query(guard, source, with_usage, seen_at),
        }
    }
}

fn query(
    guard: DeliveryGuard,
    source: StatusSource,
    with_usage: bool,
    seen_at: Instant,
) -> ReadExit {
    let result = status_query::query(guard.record(), &source, with_usage);
    let pidfd = match source {
        StatusSource::Pidfd(pidfd) => Some(pidfd),
        _ => None,
    };
    match result {
        QueryResult::Status(outcome, usage) => ReadExit::Stored {
            record: Arc::clone(guard.record()),
            outcome,
            guard: guard.finish(outcome, usage, seen_at),
            pidfd,
        },
        QueryResult::NotYet => ReadExit::NotYet(guard, pidfd),
    }
}

/// Reaps a child that is ours by its pid, which is not reused before that, as nothing else may reap
/// the child.
///
/// In case something else does, the pidfd detects it, where there is one. `inode` is given if the
/// pid may have been reused meanwhile, and is compared as long as a descriptor is available.
fn reap(
    guard: DeliveryGuard,
    pidfd: Option<OwnedFd>,
    inode: Option<u64>,
    with_usage: bool,
    seen_at: Instant,
) -> ReadExit {
    let record = Arc::clone(guard.record());
    let reopened = match (&pidfd, inode) {
        (None, Some(inode)) => match sys::pidfd_open(record.pid()) {
            Ok(pidfd) if sys::inode(pidfd.as_fd()) == Some(inode) => Some(pidfd),
            Err(error) if error.raw_os_error() != Some(libc::ESRCH) => None,
            Ok(_) | Err(_) => {
                let outcome = Outcome::Unknown(status_query::why_reaped(&record));
                let guard = guard.finish(outcome, None, seen_at);
                return ReadExit::Stored {
                    record,
                    outcome,
                    guard,
                    pidfd,
                };
            }
        },
        _ => None,
    };
    let target = match pidfd.as_ref().or(reopened.as_ref()) {
        Some(pidfd) => WaitTarget::ReapPidfd(pidfd.as_fd()),
        None => WaitTarget::ReapPid(record.pid()),
    };
    let why_not = || Some(status_query::why_reaped(&record));
    match guard.reap(target, with_usage, why_not, seen_at) {
        Reaped::Finished(outcome, guard) => ReadExit::Stored {
            record,
            outcome,
            guard,
            pidfd,
        },
        Reaped::NotYet(guard) => ReadExit::NotYet(guard, pidfd),
    }
}
