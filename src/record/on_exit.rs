//! Adding and cancelling callbacks.

use std::sync::Arc;

use super::delivery_guard::DeliveryGuard;
use super::{Phase, Record, State, drop_catching_panics};
use crate::error::Closed;
use crate::shared::Shared;
use crate::sync::MutexGuard;
use crate::sync::signal_mask;
use crate::sync::wait_graph;
use crate::types::callback::{Callback, CallbackId, Cancel};

impl Record {
    /// Adds a callback. If the process has ended and no thread is about to run its callbacks, the
    /// record goes to the ring thread, which puts it in order with new exits.
    pub(crate) fn on_exit(
        self: &Arc<Self>,
        shared: &Shared,
        callback: Callback,
    ) -> Result<CallbackId, Closed> {
        // The drop of the watcher may have returned while a callback of this record, which called
        // the drop, still runs.
        if shared.stopping() {
            return Err(Closed::Dropped);
        }
        let mut state = self.lock();
        match state.phase {
            Phase::Closed => return Err(shared.closed_reason()),
            Phase::Live | Phase::Scheduled => {}
            Phase::Idle => {
                // The watcher may be gone without a change of this record: an idle record has no
                // guard.
                if let Err(guard) = shared
                    .mailbox
                    .schedule(DeliveryGuard::new(Arc::clone(self)))
                {
                    guard.done();
                    state.phase = Phase::Closed;
                    return Err(shared.closed_reason());
                }
                state.phase = Phase::Scheduled;
            }
        }
        Ok(state.callbacks.push(callback))
    }

    /// See [`Watch::cancel`](crate::Watch::cancel).
    pub(crate) fn cancel(&self, id: CallbackId) -> Cancel {
        let mut state = self.lock();
        if let Some(callback) = state.callbacks.remove(id) {
            drop(self.drop_callback(state, id, callback));
            return Cancel::Cancelled;
        }
        while self.running(&state) == Some(id) || state.is_dropping(id) {
            // The wait is announced under the record's lock, so the callback cannot have ended
            // between the check and the wait.
            let Some(_waiting) = wait_graph::wait_for(id) else {
                return Cancel::Running;
            };
            state = self.wait_for_change(state, None);
        }
        Cancel::NotPending
    }

    /// Drops a callback that will not run. A concurrent `cancel` waits for that, because what the
    /// callback captured is gone only then.
    pub(super) fn drop_callback<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        id: CallbackId,
        callback: Callback,
    ) -> MutexGuard<'a, State> {
        state.extra().dropping.push(id);
        drop(state);
        signal_mask::apply_builder_mask();
        wait_graph::as_callback(id, || drop_catching_panics(callback));
        let mut state = self.lock();
        state.extra().dropping.retain(|other| *other != id);
        self.notify(&state);
        state
    }
}

impl State {
    fn is_dropping(&self, id: CallbackId) -> bool {
        let extra = self.extra.as_ref();
        extra.is_some_and(|extra| extra.dropping.contains(&id))
    }
}
