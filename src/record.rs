//! What the threads share about one watched process: its exit and its callbacks.
//!
//! ```text
//!            finish, none        on_exit
//!   Live ───────────────► Idle ◄────────► Scheduled      (mailbox, queue or worker has it)
//!    │ finish, some callbacks                 ▲
//!    └────────────────────────────────────────┘          any ──close──► Closed
//! ```
//!
//! A record is scheduled at most once at a time: whoever moves it to `Scheduled`
//! hands it on, whoever runs its callbacks moves it back to `Idle` under the same lock
//! under which it found none left. So each callback runs once, callbacks of one process run in
//! order and one at a time, and none is left behind.
//!
//! The watcher's side holds each record that is live or scheduled in exactly one [`Duty`]. Dropping
//! one undone, for whatever reason and on whatever path, closes the record, so that no
//! waiter is ever forgotten.
//!
//! Locks: a record's lock may be held while the mailbox's or the wait graph's is taken, never the
//! other way round. User code runs, and is dropped, under no lock.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use crate::callback::{Callback, CallbackId, Cancel};
use crate::error::Closed;
use crate::shared::Shared;
use crate::wait_graph;
use crate::{Exit, Pid};

pub(crate) struct Record {
    pid: Pid,
    is_child: bool,
    /// What the ring thread knows this watch by; written by it alone.
    token: AtomicU64,
    /// How often its end was not quite over when the ring thread looked.
    looks: AtomicU32,
    exit: OnceLock<Exit>,
    state: Mutex<State>,
    /// The exit came, a callback ended, or the watcher closed.
    changed: Condvar,
}

struct State {
    phase: Phase,
    /// Threads in `changed`, so that nobody pays for a wake-up that nobody awaits.
    waiters: u32,
    running: Option<CallbackId>,
    /// Taken out and being dropped, unrun.
    dropping: Vec<CallbackId>,
    callbacks: VecDeque<(CallbackId, Callback)>,
}

#[derive(Clone, Copy)]
enum Phase {
    /// Not known to have ended.
    Live,
    /// Ended; somebody is about to run the callbacks, or does.
    Scheduled,
    /// Ended; all callbacks have run.
    Idle,
    /// The watcher is gone; no callback runs any more.
    Closed,
}

impl Record {
    pub(crate) fn new(pid: Pid, is_child: bool) -> Self {
        Self {
            pid,
            is_child,
            token: AtomicU64::new(0),
            looks: AtomicU32::new(0),
            exit: OnceLock::new(),
            state: Mutex::new(State {
                phase: Phase::Live,
                waiters: 0,
                running: None,
                dropping: Vec::new(),
                callbacks: VecDeque::new(),
            }),
            changed: Condvar::new(),
        }
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Whether it was a child of this process when the watch began; then it is one for life.
    pub(crate) fn is_child(&self) -> bool {
        self.is_child
    }

    pub(crate) fn set_token(&self, token: u64) {
        self.token.store(token, Ordering::Relaxed);
    }

    pub(crate) fn token(&self) -> u64 {
        self.token.load(Ordering::Relaxed)
    }

    /// Counts a look that came too early; ring thread only.
    pub(crate) fn count_look(&self) -> u32 {
        self.looks.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn exit(&self) -> Option<&Exit> {
        self.exit.get()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No user code runs under the lock, and nothing under it panics half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notify(&self, state: &State) {
        if state.waiters > 0 {
            self.changed.notify_all();
        }
    }

    fn wait_for_change<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.waiters += 1;
        let mut state = self
            .changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner);
        state.waiters -= 1;
        state
    }

    /// Adds a callback. If the process has ended and nobody is about to run callbacks,
    /// the record goes to the ring thread, which puts it in line with the exits.
    pub(crate) fn on_exit(
        self: &Arc<Self>,
        shared: &Shared,
        callback: Callback,
    ) -> Result<CallbackId, Closed> {
        let id = CallbackId::next();
        let mut state = self.lock();
        match state.phase {
            Phase::Closed => return Err(shared.why_closed()),
            Phase::Live | Phase::Scheduled => {}
            Phase::Idle => {
                // The watcher may be gone without this record knowing: for an idle one
                // there is no duty.
                if let Err(duty) = shared.mailbox.schedule(Duty(Some(Arc::clone(self)))) {
                    duty.done();
                    state.phase = Phase::Closed;
                    return Err(shared.why_closed());
                }
                state.phase = Phase::Scheduled;
            }
        }
        if state.callbacks.is_empty() {
            // Most watches get one, and the usual first capacity is four.
            state.callbacks.reserve_exact(1);
        }
        state.callbacks.push_back((id, callback));
        Ok(id)
    }

    /// See [`Watch::cancel`](crate::Watch::cancel).
    pub(crate) fn cancel(&self, id: CallbackId) -> Cancel {
        let mut state = self.lock();
        if let Some(index) = state.callbacks.iter().position(|(other, _)| *other == id)
            && let Some((_, callback)) = state.callbacks.remove(index)
        {
            drop(self.drop_unrun(state, id, callback));
            return Cancel::Cancelled;
        }
        while state.running == Some(id) || state.dropping.contains(&id) {
            // The announcement is made under the record's lock, so the callback
            // cannot have ended between the look and the wait.
            let Some(_waiting) = wait_graph::wait_for(id) else {
                return Cancel::Running;
            };
            state = self.wait_for_change(state);
        }
        Cancel::NotPending
    }

    /// Drops a callback that will not run. Who cancels it meanwhile waits for that: only then is
    /// what it captured gone.
    fn drop_unrun<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        id: CallbackId,
        callback: Callback,
    ) -> MutexGuard<'a, State> {
        state.dropping.push(id);
        drop(state);
        wait_graph::within(id, || drop_quietly(callback));
        let mut state = self.lock();
        state.dropping.retain(|other| *other != id);
        self.notify(&state);
        state
    }

    /// Waits until the exit is known, the watcher is gone, or `until`. `Ok(None)`
    /// is the time-out.
    pub(crate) fn wait(
        &self,
        shared: &Shared,
        until: Option<Instant>,
    ) -> Result<Option<&Exit>, Closed> {
        let mut state = self.lock();
        loop {
            if let Some(exit) = self.exit.get() {
                return Ok(Some(exit));
            }
            if matches!(state.phase, Phase::Closed) {
                return Err(shared.why_closed());
            }
            state = match until {
                None => self.wait_for_change(state),
                Some(until) => {
                    let Some(left) = until.checked_duration_since(Instant::now()) else {
                        return Ok(None);
                    };
                    state.waiters += 1;
                    let (mut state, _) = self
                        .changed
                        .wait_timeout(state, left)
                        .unwrap_or_else(PoisonError::into_inner);
                    state.waiters -= 1;
                    state
                }
            };
        }
    }

    /// Whether the watch may be given up: nothing has come, and nobody waits to be called.
    pub(crate) fn is_unwanted(&self) -> bool {
        let state = self.lock();
        matches!(state.phase, Phase::Live) && state.callbacks.is_empty()
    }

    /// Gives up what has not begun, and tells everybody who waits.
    fn close(&self) {
        let mut state = self.lock();
        state.phase = Phase::Closed;
        self.notify(&state);
        while let Some((id, callback)) = state.callbacks.pop_front() {
            state = self.drop_unrun(state, id, callback);
        }
    }
}

/// The watcher's side of a record: the duty to see the exit and to run the callbacks.
/// `None` once done.
pub(crate) struct Duty(Option<Arc<Record>>);

impl Duty {
    pub(crate) fn new(record: Arc<Record>) -> Self {
        Self(Some(record))
    }

    pub(crate) fn record(&self) -> &Arc<Record> {
        self.0.as_ref().expect("held until it is done")
    }

    /// Nothing is left to do.
    fn done(mut self) {
        self.0 = None;
    }

    /// Takes the exit in. If there are callbacks the duty goes on, and is to be handed to who runs them.
    pub(crate) fn finish(self, exit: Exit) -> Option<Self> {
        let record = Arc::clone(self.record());
        let mut state = record.lock();
        let first = record.exit.set(exit).is_ok();
        debug_assert!(first, "a process ended twice");
        record.notify(&state);
        if state.callbacks.is_empty() {
            state.phase = Phase::Idle;
            // Under the lock: from here on another duty may be made.
            self.done();
            return None;
        }
        state.phase = Phase::Scheduled;
        Some(self)
    }

    /// Runs the callbacks. What is added meanwhile gets its turn after the other processes in
    /// line, so that one that adds itself again and again starves nobody.
    pub(crate) fn run_callbacks(self, shared: &Shared) {
        let record = Arc::clone(self.record());
        let Some(exit) = record.exit.get() else {
            debug_assert!(false, "scheduled without an exit");
            return;
        };
        let mut state = record.lock();
        for _ in 0..state.callbacks.len() {
            if shared.stopping() {
                // The drop of the watcher has begun; ours closes the record.
                drop(state);
                return;
            }
            // Fewer by now if some were cancelled.
            let Some((id, callback)) = state.callbacks.pop_front() else {
                break;
            };
            state.running = Some(id);
            drop(state);

            let end = catch_unwind(AssertUnwindSafe(|| {
                wait_graph::within(id, || callback(exit));
            }));
            shared.counters.callbacks.add(1);
            if let Err(payload) = end {
                shared.counters.panics.add(1);
                drop_quietly(payload);
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

impl Drop for Duty {
    fn drop(&mut self) {
        if let Some(record) = self.0.take() {
            record.close();
        }
    }
}

/// Drops a value of the user's whose `Drop` may panic.
fn drop_quietly<T>(value: T) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        // Its drop could panic again.
        std::mem::forget(payload);
    }
}
