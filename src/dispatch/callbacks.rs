//! Runs the callbacks of an ended process, on a worker or on the ring thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use crate::record::delivery_guard::DeliveryGuard;
use crate::record::{Phase, drop_catching_panics};
use crate::shared::Shared;
use crate::sync::signal_mask;
use crate::sync::wait_graph;

impl DeliveryGuard {
    /// Runs the callbacks, one after the other and under no lock.
    ///
    /// Callbacks that are added meanwhile run after the other processes in the queue, so that a
    /// callback that adds itself again and again does not starve others. `queued_at` is when the
    /// process was put in the queue, if it was.
    pub(crate) fn run_callbacks(self, shared: &Shared, queued_at: Option<Instant>) {
        let record = Arc::clone(self.record());
        let Some(exit) = record.exit() else {
            debug_assert!(false, "scheduled without an exit");
            return;
        };
        let queued = queued_at.map(|at| exit.queued(at));
        let exit = queued.as_ref().unwrap_or(exit);
        let mut state = record.lock();
        for _ in 0..state.callbacks.max_len() {
            if shared.stopping() {
                // The drop of the watcher has begun. Dropping the guard closes the record.
                drop(state);
                return;
            }
            // There are fewer by now if some were cancelled.
            let Some((id, callback)) = state.callbacks.pop() else {
                break;
            };
            record.set_running(&mut state, Some(id));
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
            record.set_running(&mut state, None);
            record.notify(&state);
        }
        if !state.callbacks.is_empty() {
            drop(state);
            // If the mailbox is closed, dropping the returned guard closes the record.
            drop(shared.mailbox.schedule(self));
            return;
        }
        if matches!(state.phase, Phase::Scheduled) {
            state.phase = Phase::Idle;
        }
        // Under the lock: once it is released, another guard may be made for this record.
        self.done();
    }
}
