//! What the threads share about one watched process: its exit, and who wants to know of it.
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
//! The watcher's side holds each record that is live or scheduled in exactly one
//! [`DeliveryGuard`].
//!
//! Locks: a record's lock may be held while the mailbox's, the wait graph's, or that of a queue of
//! [`Exits`](crate::Exits) is taken, never the other way round. User code runs, and is dropped,
//! under no lock.

mod callbacks;
pub(crate) mod delivery_guard;
pub(crate) mod orphan_reaper;
mod signals;
mod subscribers;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, Weak};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use slab::Slab;

use crate::api::exits::Sink;
use crate::api::future::WakerKey;
use crate::error::{Closed, WaitError};
use crate::record::delivery_guard::DeliveryGuard;
use crate::ring_thread::deadlines::DeadlineKey;
use crate::shared::Shared;
use crate::sync::signal_mask;
use crate::sync::wait_graph;
use crate::sync::{Condvar, Mutex, MutexGuard};
use crate::types::callback::{Callback, CallbackId, Cancel};
use crate::{Exit, Pid};

pub(crate) use callbacks::Callbacks;
pub(crate) use subscribers::{Subscribers, drop_catching_panics};

pub(crate) struct Record {
    pid: Pid,
    ownership: Ownership,
    watch_for: WatchFor,
    /// How often its end was not quite over when the ring thread looked.
    looks: AtomicU32,
    /// No handle is left, and nobody is to be notified; set under the lock, and for good.
    abandoned: AtomicBool,
    /// What the ring thread knows this watch by; written by it alone.
    token: AtomicU64,
    pub(crate) exit: OnceLock<Exit>,
    state: Mutex<State>,
    /// The exit came, a callback ended, or the watcher closed.
    changed: Condvar,
}

/// What the process is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// A child that we reap.
    Owned,
    /// A child that somebody else in this program reaps. It was one when the watch began, and
    /// then it is one for life.
    Child,
    /// No child of this process.
    NotChild,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WatchFor {
    /// The end, a zombie being an end.
    Exited,
    /// That its parent reaped it.
    Reaped,
}

pub(crate) struct State {
    pub(crate) phase: Phase,
    /// Threads in `changed`, so that nobody pays for a wake-up that nobody awaits.
    waiters: u32,
    pub(crate) running: Option<CallbackId>,
    pub(crate) callbacks: Callbacks,
    /// What few watches need.
    extra: Option<Box<Extra>>,
}

#[derive(Default)]
pub(crate) struct Extra {
    /// Callbacks taken out and being dropped, unrun.
    dropping: Vec<CallbackId>,
    /// Of the futures that wait.
    wakers: Slab<Waker>,
    /// Queues that the exit goes to.
    sinks: Vec<Sink>,
    /// Where the ring thread has the deadline.
    deadline: Option<DeadlineKey>,
    /// A deadline that the ring thread has not taken yet; a later one takes its place, so that there is at most one command
    /// for each process.
    new_deadline: Option<NewDeadline>,
    /// A deadline's signal was sent.
    by_deadline: bool,
    /// The last signal of a deadline that could not be sent, and the errno.
    deadline_error: Option<(i32, i32)>,
    /// There as long as the group that a deadline ends, or has ended the leader of, has its grace.
    group: Weak<()>,
}

/// When the child is to end (never, if there is no time), and how long after that for good.
#[derive(Clone, Copy)]
pub(crate) struct NewDeadline {
    pub(crate) at: Option<Instant>,
    pub(crate) grace: Duration,
}

#[derive(Clone, Copy)]
pub(crate) enum Phase {
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
    pub(crate) fn new(pid: Pid, ownership: Ownership, watch_for: WatchFor) -> Self {
        Self {
            pid,
            ownership,
            watch_for,
            looks: AtomicU32::new(0),
            abandoned: AtomicBool::new(false),
            token: AtomicU64::new(0),
            exit: OnceLock::new(),
            state: Mutex::new(State {
                phase: Phase::Live,
                waiters: 0,
                running: None,
                callbacks: Callbacks::default(),
                extra: None,
            }),
            changed: Condvar::new(),
        }
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    pub(crate) fn ownership(&self) -> Ownership {
        self.ownership
    }

    pub(crate) fn watch_for(&self) -> WatchFor {
        self.watch_for
    }

    pub(crate) fn set_token(&self, token: u64) {
        self.token.store(token, Ordering::Relaxed);
    }

    pub(crate) fn token(&self) -> u64 {
        self.token.load(Ordering::Relaxed)
    }

    /// Counts a look that came too early; ring thread only.
    pub(crate) fn count_status_query(&self) -> u32 {
        self.looks.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn exit(&self) -> Option<&Exit> {
        self.exit.get()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // No user code runs under the lock, and nothing under it panics half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn notify(&self, state: &State) {
        if state.waiters > 0 {
            self.changed.notify_all();
        }
    }

    /// Waits for a change, or until the time.
    fn wait_for_change<'a>(
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

    // ---- callbacks

    /// Adds a callback. If the process has ended and nobody is about to run callbacks,
    /// the record goes to the ring thread, which puts it in line with the exits.
    pub(crate) fn on_exit(
        self: &Arc<Self>,
        shared: &Shared,
        callback: Callback,
    ) -> Result<CallbackId, Closed> {
        // The drop may have returned already, while a callback of this record still runs that called it.
        if shared.stopping() {
            return Err(Closed::Dropped);
        }
        let mut state = self.lock();
        match state.phase {
            Phase::Closed => return Err(shared.closed_reason()),
            Phase::Live | Phase::Scheduled => {}
            Phase::Idle => {
                // The watcher may be gone without this record knowing: for an idle one
                // there is no duty.
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
            drop(self.drop_unrun(state, id, callback));
            return Cancel::Cancelled;
        }
        while state.running == Some(id) || state.is_dropping(id) {
            // The announcement is made under the record's lock, so the callback
            // cannot have ended between the look and the wait.
            let Some(_waiting) = wait_graph::wait_for(id) else {
                return Cancel::Running;
            };
            state = self.wait_for_change(state, None);
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
        state.extra().dropping.push(id);
        drop(state);
        signal_mask::apply_builder_mask();
        wait_graph::as_callback(id, || drop_catching_panics(callback));
        let mut state = self.lock();
        state.extra().dropping.retain(|other| *other != id);
        self.notify(&state);
        state
    }

    // ---- waiting, futures, queues

    /// Waits until the exit is known, the watcher is gone, or `until`. `Ok(None)`
    /// is the timeout.
    pub(crate) fn wait(
        &self,
        shared: &Shared,
        until: Option<Instant>,
    ) -> Result<Option<&Exit>, WaitError> {
        // The exit comes from the ring thread, which may wait for the callback that we are in.
        let _waiting = wait_graph::wait_for(shared.ring_thread).ok_or(WaitError::WouldDeadlock)?;
        let mut state = self.lock();
        loop {
            if let Some(exit) = self.exit.get() {
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

    /// The exit, if it is known, and an error if the watcher ended before.
    pub(crate) fn try_wait(&self, shared: &Shared) -> Result<Option<&Exit>, Closed> {
        let state = self.lock();
        match (self.exit.get(), state.phase) {
            (None, Phase::Closed) => Err(shared.closed_reason()),
            (exit, _) => Ok(exit),
        }
    }

    /// What a future finds when it is polled; if nothing, it is woken when there is something. `key`: where its waker is.
    pub(crate) fn poll(
        &self,
        shared: &Shared,
        key: &mut WakerKey,
        waker: &Waker,
    ) -> Poll<Result<Exit, Closed>> {
        // Its code is the executor's, and so not run under the lock, nor dropped.
        let waker = waker.clone();
        let _old;
        let mut state = self.lock();
        if let Some(exit) = self.exit.get() {
            return Poll::Ready(Ok(exit.clone()));
        }
        if matches!(state.phase, Phase::Closed) {
            drop(state);
            return Poll::Ready(Err(shared.closed_reason()));
        }
        // They are taken out for good when the exit comes or the watcher ends, so a key is never another future's.
        let wakers = &mut state.extra().wakers;
        match key.and_then(|key| wakers.get_mut(key)) {
            Some(old) => _old = std::mem::replace(old, waker),
            None => *key = Some(wakers.insert(waker)),
        }
        Poll::Pending
    }

    /// The future was dropped.
    pub(crate) fn forget_waker(&self, key: usize) {
        let mut state = self.lock();
        let extra = state.extra.as_mut();
        let waker = extra.and_then(|extra| extra.wakers.try_remove(key));
        drop(state);
        drop(waker);
    }

    /// Has the exit put into a queue when it comes, or now.
    pub(crate) fn add_sink(&self, shared: &Shared, sink: Sink) -> Result<(), Closed> {
        let mut state = self.lock();
        if let Some(exit) = self.exit.get() {
            sink.deliver(exit);
            return Ok(());
        }
        if matches!(state.phase, Phase::Closed) {
            drop(state);
            sink.release();
            return Err(shared.closed_reason());
        }
        state.extra().sinks.push(sink);
        Ok(())
    }

    /// The last handle goes. Whether the watch is given up with it: the process has not ended, and nobody is to be
    /// notified. A child that is ours is never given up.
    pub(crate) fn abandon(&self) -> bool {
        if self.ownership == Ownership::Owned {
            return false;
        }
        let state = self.lock();
        let sinks = state.extra.as_ref().map_or(0, |extra| extra.sinks.len());
        let abandoned =
            matches!(state.phase, Phase::Live) && state.callbacks.is_empty() && sinks == 0;
        self.abandoned.store(abandoned, Ordering::Relaxed);
        abandoned
    }

    /// Whether the watch was given up. The ring thread asks wherever it would go on with it; if the answer comes
    /// too early, the command that follows brings it there again.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }

    // ---- the end of the watcher

    /// The end of the watcher: gives up what has not begun, and tells everybody who waits.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.phase = Phase::Closed;
        self.notify(&state);
        while let Some((id, callback)) = state.callbacks.pop() {
            state = self.drop_unrun(state, id, callback);
        }
        let subscribers = state.take_subscribers();
        drop(state);
        subscribers.notify(None);
    }
}

impl State {
    pub(crate) fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    fn is_dropping(&self, id: CallbackId) -> bool {
        let extra = self.extra.as_ref();
        extra.is_some_and(|extra| extra.dropping.contains(&id))
    }

    pub(crate) fn by_deadline(&self) -> bool {
        self.extra.as_ref().is_some_and(|extra| extra.by_deadline)
    }

    /// Who is to be told of the exit, apart from callbacks and threads.
    pub(crate) fn take_subscribers(&mut self) -> Subscribers {
        match &mut self.extra {
            None => Subscribers::default(),
            Some(extra) => Subscribers {
                wakers: std::mem::take(&mut extra.wakers),
                sinks: std::mem::take(&mut extra.sinks),
            },
        }
    }
}
