//! The watcher's responsibility for a record: to deliver the exit and to run the callbacks.
//!
//! Each record that is live or scheduled has exactly one guard, wherever it is: in the mailbox, a
//! slot, an event, the backlog, the exit queue, or a worker. Dropping a guard that is not done, for
//! whatever reason and on whatever path, closes the record, so that every waiter returns. It also
//! passes a child of ours to the orphan reaper, so that no zombie is left.

use std::sync::Arc;
use std::time::Instant;

use super::{Ownership, Phase, Record, State, orphan_reaper};
use crate::CgroupReport;
use crate::sync::MutexGuard;
use crate::sys::{self, WaitResult, WaitTarget};
use crate::types::exit::{Exit, Outcome, Unknown, Usage};

/// `None` once the delivery is done.
pub(crate) struct DeliveryGuard(Option<Arc<Record>>);

/// The result of reaping a child.
pub(crate) enum Reaped {
    /// The child was reaped. The guard is returned if there are callbacks to run.
    Finished(Outcome, Option<DeliveryGuard>),
    /// The child cannot be reaped yet.
    NotYet(DeliveryGuard),
}

impl DeliveryGuard {
    pub(crate) fn new(record: Arc<Record>) -> Self {
        Self(Some(record))
    }

    pub(crate) fn record(&self) -> &Arc<Record> {
        self.0.as_ref().expect("set until it is done")
    }

    /// Marks the delivery as done.
    pub(crate) fn done(mut self) {
        self.0 = None;
    }

    /// Stores the exit. Returns the guard if there are callbacks, for the thread that runs them.
    pub(crate) fn finish(
        self,
        outcome: Outcome,
        usage: Option<Usage>,
        seen_at: Instant,
    ) -> Option<Self> {
        let record = Arc::clone(self.record());
        let report = record.cgroup_report();
        let state = record.lock();
        self.finish_locked(&record, state, outcome, usage, seen_at, report)
    }

    /// Reaps a child of ours and stores its exit.
    ///
    /// Both happen under the lock under which the child is signalled, because its pid may be reused
    /// after the reap. `target` is what to reap by. `why_not` says what it means if there is no
    /// such child. The usage is read if `with_usage` is set.
    pub(crate) fn reap(
        self,
        target: WaitTarget<'_>,
        with_usage: bool,
        why_not: impl FnOnce() -> Option<Unknown>,
        seen_at: Instant,
    ) -> Reaped {
        let record = Arc::clone(self.record());
        // The child is a zombie, which its cgroup does not count. Files are not read under the lock.
        let report = record.cgroup_report();
        let state = record.lock();
        let (outcome, usage) = match sys::waitid_with(target, with_usage) {
            Ok(WaitResult::Ended(outcome, usage)) => (outcome, usage),
            Ok(WaitResult::Pending) => return Reaped::NotYet(self),
            Ok(WaitResult::NoChild) | Err(_) => match why_not() {
                Some(why) => (Outcome::Unknown(why), None),
                None => return Reaped::NotYet(self),
            },
        };
        let guard = self.finish_locked(&record, state, outcome, usage, seen_at, report);
        Reaped::Finished(outcome, guard)
    }

    fn finish_locked(
        self,
        record: &Record,
        mut state: MutexGuard<'_, State>,
        outcome: Outcome,
        usage: Option<Usage>,
        seen_at: Instant,
        report: Option<Arc<CgroupReport>>,
    ) -> Option<Self> {
        let nothing_left = report.as_ref().is_some_and(|report| report.is_empty());
        let exit = Exit {
            pid: record.pid(),
            outcome,
            usage,
            seen_at,
            by_deadline: state.by_deadline(),
            queued_after_ns: None,
            cgroup: report,
        };
        let first = record.set_exit(exit);
        debug_assert!(first, "a process ended twice");
        record.notify(&state);
        let subscribers = state.take_subscribers();
        let more = match state.callbacks.is_empty() {
            true => {
                state.phase = Phase::Idle;
                // Under the lock: once it is released, another guard may be made for this record.
                self.done();
                None
            }
            false => {
                state.phase = Phase::Scheduled;
                Some(self)
            }
        };
        // Back to its pool, unless there is something left to kill.
        let cgroup = match &mut state.extra {
            Some(extra) if nothing_left => extra.cgroup.take(),
            _ => None,
        };
        drop(state);
        drop(cgroup);
        subscribers.notify(record.exit());
        more
    }
}

impl Drop for DeliveryGuard {
    fn drop(&mut self) {
        if let Some(record) = self.0.take() {
            record.close();
            if record.ownership() == Ownership::Owned && record.exit().is_none() {
                orphan_reaper::adopt(record);
            }
        }
    }
}
