//! From a process that ended to how it ended.

use std::os::fd::AsFd;

use crate::backend::StatusSource;
use crate::record::{Ownership, Record, WatchFor};
use crate::sys::{self, WaitResult, WaitTarget};
use crate::types::exit::{Outcome, Unknown, Usage};

/// How many looks, some milliseconds apart, a reap of this very moment is given.
const STATUS_QUERIES_MAX: u32 = 100;

/// What could be found out.
pub(crate) enum StatusQuery {
    /// How it ended; what it used if that was told.
    Status(Outcome, Option<Usage>),
    /// Not to be told yet: somebody else (a tracer, a wait of this very moment) has to
    /// let go of it first.
    NotYet,
}

impl StatusQuery {
    fn unknown(why: Unknown) -> Self {
        Self::Status(Outcome::Unknown(why), None)
    }
}

/// Reads the status of a process that is not ours to reap, and leaves it a zombie.
pub(crate) fn query(record: &Record, source: &StatusSource) -> StatusQuery {
    let pidfd = match source {
        StatusSource::Pidfd(pidfd) => pidfd.as_fd(),
        StatusSource::NoDescriptor(errno) => {
            return StatusQuery::unknown(Unknown::NoDescriptor(*errno));
        }
        StatusSource::Status(outcome, usage) => return StatusQuery::Status(*outcome, Some(*usage)),
        StatusSource::Owned { .. } | StatusSource::Reaped => {
            return StatusQuery::unknown(why_reaped(record));
        }
    };
    if record.watch_for() == WatchFor::Exited {
        match sys::waitid(WaitTarget::PeekPidfd(pidfd)) {
            Ok(WaitResult::Ended(outcome, usage)) => {
                return StatusQuery::Status(outcome, Some(usage));
            }
            Ok(WaitResult::Pending) => return StatusQuery::NotYet,
            // Not a child of ours, or not any more. Any other failure says no more than that.
            Ok(WaitResult::NoChild) | Err(_) => {}
        }
    }
    if let Some(outcome) = sys::pidfd_exit(pidfd) {
        return StatusQuery::Status(outcome, None);
    }
    if record.watch_for() == WatchFor::Reaped || sys::pidfd_reaped(pidfd) {
        // Reaped between the two questions? Then the exit is on record now.
        return match sys::pidfd_exit(pidfd) {
            Some(outcome) => StatusQuery::Status(outcome, None),
            None => StatusQuery::unknown(why_reaped(record)),
        };
    }
    match record.ownership() {
        Ownership::NotChild => StatusQuery::unknown(Unknown::NotAChild),
        Ownership::Child | Ownership::Owned => match why_not_reapable(record) {
            Some(why) => StatusQuery::unknown(why),
            None => StatusQuery::NotYet,
        },
    }
}

/// What it means that a child cannot be waited for, and is not known to be reaped. It is being
/// reaped at this moment, by another thread or by itself: `None`, look again. If that
/// takes for ever, we cannot see it (`pidfd_send_signal` may be denied).
fn why_not_reapable(record: &Record) -> Option<Unknown> {
    (record.count_status_query() >= STATUS_QUERIES_MAX).then(|| why_reaped(record))
}

/// What it means that a process was reaped by somebody else.
pub(crate) fn why_reaped(record: &Record) -> Unknown {
    if record.ownership() == Ownership::NotChild {
        Unknown::NotAChild
    } else if sys::sigchld_ignored() {
        Unknown::SigchldIgnored
    } else {
        Unknown::ReapedElsewhere
    }
}
