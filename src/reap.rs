//! From a process that ended to how it ended.

use std::os::fd::AsFd;

use crate::backend::Evidence;
use crate::exit::{Outcome, Unknown, Usage};
use crate::record::{Kin, Moment, Record};
use crate::sys::{self, Ask, Waited};

/// How many looks, some milliseconds apart, a reap of this very moment is given.
const LOOKS: u32 = 100;

/// What could be found out.
pub(crate) enum Found {
    /// How it ended; what it used if that was told.
    Status(Outcome, Option<Usage>),
    /// Not to be told yet: somebody else (a tracer, a wait of this very moment) has to
    /// let go of it first.
    NotYet,
}

impl Found {
    fn unknown(why: Unknown) -> Self {
        Self::Status(Outcome::Unknown(why), None)
    }
}

/// Reads the status of a process that is not ours to reap, and leaves it a zombie.
pub(crate) fn look(record: &Record, evidence: &Evidence) -> Found {
    let pidfd = match evidence {
        Evidence::Pidfd(pidfd) => pidfd.as_fd(),
        Evidence::NoDescriptor(errno) => return Found::unknown(Unknown::NoDescriptor(*errno)),
        Evidence::Status(outcome, usage) => return Found::Status(*outcome, Some(*usage)),
        Evidence::Owned { .. } | Evidence::Reaped => return Found::unknown(why_reaped(record)),
    };
    if record.moment() == Moment::Exited {
        match sys::waitid(Ask::Look(pidfd)) {
            Ok(Waited::Ended(outcome, usage)) => return Found::Status(outcome, Some(usage)),
            Ok(Waited::NotYet) => return Found::NotYet,
            // Not a child of ours, or not any more. Any other failure says no more than that.
            Ok(Waited::NoChild) | Err(_) => {}
        }
    }
    if let Some(outcome) = sys::pidfd_exit(pidfd) {
        return Found::Status(outcome, None);
    }
    if record.moment() == Moment::Reaped || sys::pidfd_reaped(pidfd) {
        // Reaped between the two questions? Then the exit is on record now.
        return match sys::pidfd_exit(pidfd) {
            Some(outcome) => Found::Status(outcome, None),
            None => Found::unknown(why_reaped(record)),
        };
    }
    match record.kin() {
        Kin::Stranger => Found::unknown(Unknown::NotAChild),
        Kin::Child | Kin::Owned => match why_not_reapable(record) {
            Some(why) => Found::unknown(why),
            None => Found::NotYet,
        },
    }
}

/// What it means that a child cannot be waited for, and is not known to be reaped. It is being
/// reaped at this moment, by another thread or by itself: `None`, look again. If that
/// takes for ever, we cannot see it (`pidfd_send_signal` may be denied).
fn why_not_reapable(record: &Record) -> Option<Unknown> {
    (record.count_look() >= LOOKS).then(|| why_reaped(record))
}

/// What it means that a process was reaped by somebody else.
pub(crate) fn why_reaped(record: &Record) -> Unknown {
    if record.kin() == Kin::Stranger {
        Unknown::NotAChild
    } else if sys::sigchld_ignored() {
        Unknown::SigchldIgnored
    } else {
        Unknown::ReapedElsewhere
    }
}
