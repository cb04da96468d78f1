//! Queries how an ended process exited.

use std::os::fd::AsFd;

use crate::backend::StatusSource;
use crate::record::{Ownership, Record, WatchFor};
use crate::sys::{self, WaitResult, WaitTarget};
use crate::types::exit::{Outcome, Unknown, Usage};

/// How many queries, some milliseconds apart, a reap in progress is given.
const STATUS_QUERIES_MAX: u32 = 100;

/// The result of a query.
pub(crate) enum QueryResult {
    /// How the process ended, and its resource usage if that is known.
    Status(Outcome, Option<Usage>),
    /// Not available yet: another process (a tracer, a wait in progress) must release it first.
    NotYet,
}

impl QueryResult {
    fn unknown(why: Unknown) -> Self {
        Self::Status(Outcome::Unknown(why), None)
    }
}

/// Reads the status of a process that is not ours to reap, and leaves it a zombie. The usage is
/// returned if `with_usage` is set.
pub(crate) fn query(record: &Record, source: &StatusSource, with_usage: bool) -> QueryResult {
    let pidfd = match source {
        StatusSource::Pidfd(pidfd) => pidfd.as_fd(),
        StatusSource::NoDescriptor(errno) => {
            return QueryResult::unknown(Unknown::NoDescriptor(*errno));
        }
        StatusSource::Status(outcome, usage) => {
            return QueryResult::Status(*outcome, usage.filter(|_| with_usage));
        }
        StatusSource::Owned { .. } | StatusSource::Reaped => {
            return QueryResult::unknown(why_reaped(record));
        }
    };
    if record.watch_for() == WatchFor::Exited {
        match sys::waitid_with(WaitTarget::PeekPidfd(pidfd), with_usage) {
            Ok(WaitResult::Ended(outcome, usage)) => {
                return QueryResult::Status(outcome, usage);
            }
            Ok(WaitResult::Pending) => return QueryResult::NotYet,
            // Not a child of ours, or no longer. Any other failure means the same.
            Ok(WaitResult::NoChild) | Err(_) => {}
        }
    }
    if let Some(outcome) = sys::pidfd_exit(pidfd) {
        return QueryResult::Status(outcome, None);
    }
    if record.watch_for() == WatchFor::Reaped || sys::pidfd_reaped(pidfd) {
        // If it was reaped between the two questions, its exit is recorded now.
        return match sys::pidfd_exit(pidfd) {
            Some(outcome) => QueryResult::Status(outcome, None),
            None => QueryResult::unknown(why_reaped(record)),
        };
    }
    match record.ownership() {
        Ownership::NotChild => QueryResult::unknown(Unknown::NotAChild),
        Ownership::Child | Ownership::Owned => match why_not_reapable(record) {
            Some(why) => QueryResult::unknown(why),
            None => QueryResult::NotYet,
        },
    }
}

/// Why a child cannot be waited for although it is not known to be reaped.
///
/// `None`: it is being reaped at this moment, by another thread or automatically; query again. If
/// that never ends, its end cannot be observed (`pidfd_send_signal` may be denied).
fn why_not_reapable(record: &Record) -> Option<Unknown> {
    (record.count_status_query() >= STATUS_QUERIES_MAX).then(|| why_reaped(record))
}

/// Why a process has no status after something else reaped it.
pub(crate) fn why_reaped(record: &Record) -> Unknown {
    if record.ownership() == Ownership::NotChild {
        Unknown::NotAChild
    } else if sys::sigchld_ignored() {
        Unknown::SigchldIgnored
    } else {
        Unknown::ReapedElsewhere
    }
}
