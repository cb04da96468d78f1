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
mod deadline;
pub(crate) mod delivery_guard;
pub(crate) mod leftover_group;
mod on_exit;
pub(crate) mod orphan_reaper;
mod signals;
mod subscribers;
mod waiting;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{OnceLock, PoisonError, Weak};
use std::task::Waker;

use slab::Slab;

use crate::api::exits::Sink;
use crate::sync::{Condvar, Mutex, MutexGuard};
use crate::types::callback::CallbackId;
use crate::types::exit::Exit;
use crate::types::pid::Pid;

pub(crate) use callbacks::Callbacks;
pub(crate) use deadline::{DeadlineKey, NewDeadline};
pub(crate) use subscribers::{Subscribers, WakerKey, drop_catching_panics};

pub(crate) struct Record {
    pid: Pid,
    ownership: Ownership,
    watch_for: WatchFor,
    /// How often its end was not quite over when the ring thread looked.
    status_queries: AtomicU32,
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
            status_queries: AtomicU32::new(0),
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
        self.status_queries.fetch_add(1, Ordering::Relaxed) + 1
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
            state = self.drop_callback(state, id, callback);
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
