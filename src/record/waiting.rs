//! Waiting for an exit: by threads, futures and queues.

use std::sync::PoisonError;
use std::task::{Poll, Waker};
use std::time::Instant;

use super::{Phase, Record, State, WakerKey};
use crate::dispatch::sink::Sink;
use crate::error::{Closed, WaitError};
use crate::shared::Shared;
use crate::sync::MutexGuard;
use crate::sync::wait_graph;
use crate::types::exit::Exit;

impl Record {
    /// Waits for a change, at most until this time.
    pub(super) fn wait_for_change<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        until: Option<Instant>,
    ) -> MutexGuard<'a, State> {
        state.waiters += 1;
        let waited = match until {
            None => self.changed.wait(state),
            Some(until) => {
                let left = until.saturating_duration_since(Instant::now());
                match self.changed.wait_timeout(state, left) {
                    Ok((state, _)) => Ok(state),
                    Err(poisoned) => Err(PoisonError::new(poisoned.into_inner().0)),
                }
            }
        };
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        state.waiters -= 1;
        state
    }

    /// Waits until the exit is known, the watcher is gone, or `until`. `Ok(None)` is the timeout.
    pub(crate) fn wait(
        &self,
        shared: &Shared,
        until: Option<Instant>,
    ) -> Result<Option<&Exit>, WaitError> {
        // The exit comes from the ring thread, which may wait for the callback that this thread
        // runs. A worker that reads it in its place waits for nothing.
        let _waiting = wait_graph::wait_for(shared.ring_thread).ok_or(WaitError::WouldDeadlock)?;
        let mut state = self.lock();
        loop {
            if let Some(exit) = self.exit() {
                return Ok(Some(exit));
            }
            if matches!(state.phase, Phase::Closed) {
                return Err(shared.closed_reason().into());
            }
            if until.is_some_and(|until| until <= Instant::now()) {
                return Ok(None);
            }
            state = self.wait_for_change(state, until);
        }
    }

    /// The exit, if it is known; an error if the watcher ended before.
    pub(crate) fn try_wait(&self, shared: &Shared) -> Result<Option<&Exit>, Closed> {
        let state = self.lock();
        match (self.exit(), state.phase) {
            (None, Phase::Closed) => Err(shared.closed_reason()),
            (exit, _) => Ok(exit),
        }
    }

    /// Polls for a future. If there is no result yet, `waker` is woken when there is one. `key` is
    /// where the record keeps the future's waker.
    pub(crate) fn poll(
        &self,
        shared: &Shared,
        key: &mut WakerKey,
        waker: &Waker,
    ) -> Poll<Result<Exit, Closed>> {
        // Cloning and dropping a waker runs the executor's code, so both happen without the lock.
        let waker = waker.clone();
        let _old;
        let mut state = self.lock();
        if let Some(exit) = self.exit() {
            return Poll::Ready(Ok(exit.clone()));
        }
        if matches!(state.phase, Phase::Closed) {
            drop(state);
            return Poll::Ready(Err(shared.closed_reason()));
        }
        // The wakers are removed for good when the exit arrives or the watcher ends, so a key is
        // never another future's.
        let wakers = &mut state.extra().wakers;
        match key.and_then(|key| wakers.get_mut(key)) {
            Some(old) => _old = std::mem::replace(old, waker),
            None => *key = Some(wakers.insert(waker)),
        }
        Poll::Pending
    }

    /// Removes the waker of a future that was dropped.
    pub(crate) fn forget_waker(&self, key: usize) {
        let mut state = self.lock();
        let extra = state.extra.as_mut();
        let waker = extra.and_then(|extra| extra.wakers.try_remove(key));
        drop(state);
        drop(waker);
    }

    /// Adds a queue, which gets the exit when it arrives, or now.
    pub(crate) fn add_sink(&self, shared: &Shared, sink: Sink) -> Result<(), Closed> {
        let mut state = self.lock();
        if let Some(exit) = self.exit() {
            sink.deliver(exit);
            return Ok(());
        }
        if matches!(state.phase, Phase::Closed) {
            drop(state);
            sink.release();
            return Err(shared.closed_reason());
        }
        let sinks = &mut state.extra().sinks;
        if sinks.len() == sinks.capacity() {
            // Otherwise those of dropped queues would accumulate while the process lives.
            sinks.retain(Sink::has_receiver);
        }
        sinks.push(sink);
        Ok(())
    }
}
