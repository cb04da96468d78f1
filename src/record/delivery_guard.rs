//! The watcher's side of a record: the duty to see the exit, and to run the callbacks.
//!
//! Each record that is live or scheduled has exactly one, wherever it is: in the mailbox, a slot, an
//! event, a line, the queue, or a worker's hands. Dropping one undone, for whatever reason
//! and on whatever path, closes the record, so that no waiter is ever forgotten, and hands a child that
//! is ours to the orphanage, so that no zombie is.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use crate::Exit;
use crate::record::orphan_reaper;
use crate::record::{Ownership, Phase, Record, State, drop_catching_panics};
use crate::shared::Shared;
use crate::sync::MutexGuard;
use crate::sync::signal_mask;
use crate::sync::wait_graph;
use crate::sys::{self, WaitResult, WaitTarget};
use crate::types::exit::{Outcome, Unknown, Usage};

/// `None` once done.
pub(crate) struct DeliveryGuard(Option<Arc<Record>>);

/// What came of reaping a child.
pub(crate) enum Reaped {
    /// It is over; the duty goes on if there are callbacks.
    Finished(Outcome, Option<DeliveryGuard>),
    /// It cannot be reaped yet.
    NotYet(DeliveryGuard),
}

impl DeliveryGuard {
    pub(crate) fn new(record: Arc<Record>) -> Self {
        Self(Some(record))
    }

    pub(crate) fn record(&self) -> &Arc<Record> {
        self.0.as_ref().expect("held until it is done")
    }

    /// Nothing is left to do.
    pub(crate) fn done(mut self) {
        self.0 = None;
    }

    /// Takes the exit in. If there are callbacks the duty goes on, and is to be handed to who runs them.
    pub(crate) fn finish(
        self,
        outcome: Outcome,
        usage: Option<Usage>,
        seen_at: Instant,
    ) -> Option<Self> {
        let record = Arc::clone(self.record());
        let state = record.lock();
        self.finish_locked(&record, state, outcome, usage, seen_at)
    }

    /// Reaps a child that is ours and takes its exit in, all under the lock under which it
    /// is signalled: after the reap its pid may be another's.
    ///
    /// `ask`: by what it is reaped. `why_not`: what it means if it is not there to be reaped.
    pub(crate) fn reap(
        self,
        target: WaitTarget<'_>,
        why_not: impl FnOnce() -> Option<Unknown>,
        seen_at: Instant,
    ) -> Reaped {
        let record = Arc::clone(self.record());
        let state = record.lock();
        let (outcome, usage) = match sys::waitid(target) {
            Ok(WaitResult::Ended(outcome, usage)) => (outcome, Some(usage)),
            Ok(WaitResult::Pending) => return Reaped::NotYet(self),
            Ok(WaitResult::NoChild) | Err(_) => match why_not() {
                Some(why) => (Outcome::Unknown(why), None),
                None => return Reaped::NotYet(self),
            },
        };
        let guard = self.finish_locked(&record, state, outcome, usage, seen_at);
        Reaped::Finished(outcome, guard)
    }

    fn finish_locked(
        self,
        record: &Record,
        mut state: MutexGuard<'_, State>,
        outcome: Outcome,
        usage: Option<Usage>,
        seen_at: Instant,
    ) -> Option<Self> {
        let exit = Exit {
            pid: record.pid(),
            outcome,
            usage,
            seen_at,
            by_deadline: state.by_deadline(),
            queued_after_ns: None,
        };
        let first = record.exit.set(exit).is_ok();
        debug_assert!(first, "a process ended twice");
        record.notify(&state);
        let subscribers = state.take_subscribers();
        let more = match state.callbacks.is_empty() {
            true => {
                state.phase = Phase::Idle;
                // Under the lock: from here on another duty may be made.
                self.done();
                None
            }
            false => {
                state.phase = Phase::Scheduled;
                Some(self)
            }
        };
        drop(state);
        subscribers.notify(record.exit.get());
        more
    }

    /// Runs the callbacks. What is added meanwhile gets its turn after the other processes in
    /// line, so that one that adds itself again and again starves nobody.
    ///
    /// `queued_at`: when it was put in the queue, if it was.
    pub(crate) fn run_callbacks(self, shared: &Shared, queued_at: Option<Instant>) {
        let record = Arc::clone(self.record());
        let Some(exit) = record.exit.get() else {
            debug_assert!(false, "scheduled without an exit");
            return;
        };
        let queued = queued_at.map(|at| exit.queued(at));
        let exit = queued.as_ref().unwrap_or(exit);
        let mut state = record.lock();
        for _ in 0..state.callbacks.len_at_most() {
            if shared.stopping() {
                // The drop of the watcher has begun; ours closes the record.
                drop(state);
                return;
            }
            // Fewer by now if some were cancelled.
            let Some((id, callback)) = state.callbacks.pop() else {
                break;
            };
            state.running = Some(id);
            drop(state);

            signal_mask::apply_builder_mask();
            let end = catch_unwind(AssertUnwindSafe(|| {
                wait_graph::as_callback(id, || callback(exit));
            }));
            shared.counters.callbacks.add(1);
            if let Err(payload) = end {
                shared.counters.panics.add(1);
                drop_catching_panics(payload);
            }

            state = record.lock();
            state.running = None;
            record.notify(&state);
        }
        if !state.callbacks.is_empty() {
            drop(state);
            // If the box is closed, this closes the record.
            drop(shared.mailbox.schedule(self));
            return;
        }
        if matches!(state.phase, Phase::Scheduled) {
            state.phase = Phase::Idle;
        }
        // Under the lock, as above.
        self.done();
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
