//! Records: what the threads share about one watched process.
//!
//! A [`Record`] holds the exit, and everything to be notified of it: callbacks, waiting threads,
//! futures and queues.
//!
//! ```text
//!            finish, none        on_exit
//!   Live ───────────────► Idle ◄────────► Scheduled      (in the mailbox, the queue or a worker)
//!    │ finish, some callbacks                 ▲
//!    └────────────────────────────────────────┘          any ──close──► Closed
//! ```
//!
//! A record is scheduled at most once at a time. The thread that moves it to `Scheduled` passes it
//! on; the thread that runs its callbacks moves it back to `Idle` under the same lock under which
//! it found no callback left. So each callback runs once, the callbacks of one process run in order
//! and one at a time, and none is left behind.
//!
//! Who may call what:
//!
//! - The handles in `api` call [`on_exit`], [`waiting`] and [`signals`].
//! - The ring thread, the backends and the workers hold each record that is live or scheduled in
//!   exactly one [`delivery_guard::DeliveryGuard`], and deliver through it.
//! - A dropped guard passes its record to [`orphan_reaper`], and `api` a child that it could not
//!   register. Building a watcher or spawning a child restarts the thread of the reaper.
//! - Only [`on_exit`] and [`waiting`] know the watcher's `Shared`.
//!
//! Locks: the mailbox's lock, the wait graph's, or that of a queue of [`Exits`](crate::Exits) may
//! be taken while a record's lock is held, never the other way round. User code runs, and is
//! dropped, under no lock.

mod callbacks;
mod deadline;
pub(crate) mod delivery_guard;
pub(crate) mod leftover_group;
mod on_exit;
pub(crate) mod orphan_reaper;
mod prefetch;
mod signals;
mod subscribers;
mod waiting;

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, Weak};
use std::task::Waker;

use once_cell::race::OnceBox;
use slab::Slab;

use crate::cgroup::CgroupLeaf;
use crate::dispatch::sink::Sink;
use crate::sync::{Condvar, Mutex, MutexGuard};
use crate::types::callback::CallbackId;
use crate::types::exit::Exit;
use crate::types::pid::Pid;

pub(crate) use callbacks::Callbacks;
pub(crate) use deadline::{DeadlineKey, NewDeadline};
pub(crate) use subscribers::{Subscribers, WakerKey, drop_catching_panics};

/// A program has as many records as live watches, so a record holds what most watches need while
/// the process lives. The rest is in [`Ended`] and [`Extra`], which are allocated when needed.
pub(crate) struct Record {
    pid: Pid,
    ownership: Ownership,
    watch_for: WatchFor,
    /// How often the status was queried before it was available.
    status_queries: AtomicU16,
    /// No handle is left and nothing is to be notified. Set under the lock, and never cleared.
    abandoned: AtomicBool,
    /// The handle was dropped. Accessed under the lock only.
    handle_dropped: AtomicBool,
    /// Whether the child was started in a cgroup. Set before the record is shared, so that the exits
    /// of others take no lock for it.
    has_cgroup: AtomicBool,
    /// The engine's token of this watch. Only the ring thread writes it.
    token: AtomicU64,
    ended: OnceBox<Ended>,
    state: Mutex<State>,
    /// Notified when the exit arrives, a callback ends, or the watcher closes.
    changed: Condvar,
}

/// Who reaps the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// A child that the watcher reaps.
    Owned,
    /// A child that another part of this program reaps. A process that was a child when the watch
    /// began stays one for life.
    Child,
    /// Not a child of this process.
    NotChild,
}

/// The event that a watch waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WatchFor {
    /// The end of the process; it may still be a zombie.
    Exited,
    /// The reap of the process by its parent.
    Reaped,
}

/// What a record needs only after the process has ended.
struct Ended {
    exit: Exit,
    /// The id of the callback that runs; zero if none does. Accessed under the record's lock only,
    /// which also orders the accesses.
    running: AtomicU64,
}

pub(crate) struct State {
    pub(crate) phase: Phase,
    /// Threads that wait on `changed`, so that no wake-up is made without one.
    waiters: u32,
    pub(crate) callbacks: Callbacks,
    /// State that few watches need.
    extra: Option<Box<Extra>>,
}

#[derive(Default)]
pub(crate) struct Extra {
    /// Callbacks that were removed and are being dropped without having run.
    dropping: Vec<CallbackId>,
    /// The wakers of waiting futures.
    wakers: Slab<Waker>,
    /// Queues that the exit is delivered to.
    sinks: Vec<Sink>,
    /// The key of the deadline in the ring thread.
    deadline: Option<DeadlineKey>,
    /// A deadline that the ring thread has not taken yet. A later one replaces it, so that there is
    /// at most one command for each process.
    new_deadline: Option<NewDeadline>,
    /// A deadline's signal was sent.
    by_deadline: bool,
    /// The last signal of a deadline that could not be sent, and the errno.
    deadline_error: Option<(i32, i32)>,
    /// Can be upgraded as long as the group that a deadline terminates, or whose leader it has
    /// ended, has its grace.
    group: Weak<()>,
    /// The cgroup of the child, as long as it may have processes.
    cgroup: Option<Arc<CgroupLeaf>>,
    /// What is left in it is killed when the child has ended.
    kill_leftovers: bool,
}

#[derive(Clone, Copy)]
pub(crate) enum Phase {
    /// Not known to have ended.
    Live,
    /// Ended; its callbacks are about to run, or run.
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
            status_queries: AtomicU16::new(0),
            abandoned: AtomicBool::new(false),
            handle_dropped: AtomicBool::new(false),
            has_cgroup: AtomicBool::new(false),
            token: AtomicU64::new(0),
            ended: OnceBox::new(),
            state: Mutex::new(State {
                phase: Phase::Live,
                waiters: 0,
                callbacks: Callbacks::default(),
                extra: None,
            }),
            changed: Condvar::new(),
        }
    }

    /// Sets the cgroup of a child, before the record is shared.
    pub(crate) fn set_cgroup(&self, leaf: Arc<CgroupLeaf>, kill_leftovers: bool) {
        let mut state = self.lock();
        let extra = state.extra();
        extra.cgroup = Some(leaf);
        extra.kill_leftovers = kill_leftovers;
        self.has_cgroup.store(true, Ordering::Relaxed);
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

    /// Counts a query that came too early. Only the holder of the delivery guard calls this.
    pub(crate) fn count_status_query(&self) -> u32 {
        u32::from(self.status_queries.fetch_add(1, Ordering::Relaxed)) + 1
    }

    pub(crate) fn exit(&self) -> Option<&Exit> {
        self.ended.get().map(|ended| &ended.exit)
    }

    /// Stores the exit. Returns `false` if there is one.
    fn set_exit(&self, exit: Exit) -> bool {
        let running = AtomicU64::new(0);
        self.ended.set(Box::new(Ended { exit, running })).is_ok()
    }

    /// The callback that runs.
    fn running(&self, _locked: &State) -> Option<CallbackId> {
        let id = self.ended.get()?.running.load(Ordering::Relaxed);
        NonZeroU64::new(id).map(CallbackId::from_number)
    }

    /// Sets the callback that runs. The exit is stored by then.
    pub(crate) fn set_running(&self, _locked: &mut State, id: Option<CallbackId>) {
        if let Some(ended) = self.ended.get() {
            let id = id.map_or(0, |id| id.get().get());
            ended.running.store(id, Ordering::Relaxed);
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // No user code runs under the lock, and no code under it panics halfway.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn notify(&self, state: &State) {
        if state.waiters > 0 {
            self.changed.notify_all();
        }
    }

    /// Whether there are callbacks to run once the process has ended, and nothing else depends on
    /// its end: no thread, future or queue waits, and no deadline or cgroup is set. A record
    /// that once had one of these may count as if it still had.
    pub(crate) fn is_for_callbacks_only(&self) -> bool {
        let state = self.lock();
        !state.callbacks.is_empty() && state.waiters == 0 && state.extra.is_none()
    }

    /// Whether the record has state that few watches need, such as a deadline.
    pub(crate) fn has_extra(&self) -> bool {
        self.lock().extra.is_some()
    }

    /// Called when the handle is dropped. Returns whether that abandons the watch: the process has
    /// not ended, and nothing is to be notified. A child of ours is never abandoned.
    pub(crate) fn drop_handle(&self) -> bool {
        if self.ownership == Ownership::Owned {
            return false;
        }
        let state = self.lock();
        self.handle_dropped.store(true, Ordering::Relaxed);
        self.abandon(&state)
    }

    /// Called when a queue that waits for the exit has been dropped. Returns whether that abandons
    /// the watch.
    ///
    /// The handle may be dropped at the same time. The queue has no receiver before the record's
    /// lock is taken here, so that of the two the later one finds nothing that needs the watch.
    pub(crate) fn drop_queue(&self) -> bool {
        let state = self.lock();
        self.handle_dropped.load(Ordering::Relaxed) && self.abandon(&state)
    }

    /// Abandons the watch, if it is not abandoned and nothing needs it.
    fn abandon(&self, state: &State) -> bool {
        if self.is_abandoned() {
            return false;
        }
        let mut sinks = state.extra.iter().flat_map(|extra| &extra.sinks);
        let abandoned = matches!(state.phase, Phase::Live)
            && state.callbacks.is_empty()
            && !sinks.any(Sink::has_receiver);
        self.abandoned.store(abandoned, Ordering::Relaxed);
        abandoned
    }

    /// Whether the watch is abandoned. The ring thread checks this wherever it would continue with
    /// the watch. If it checks too early, the `Unwatch` command that follows makes it check again.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }

    /// Closes the record at the end of the watcher: drops callbacks that have not begun, and
    /// notifies all waiters.
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

    /// Removes the wakers and queues to notify; callbacks and threads are notified in other ways.
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

// The models have locks of another size.
#[cfg(all(test, not(exitring_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_small() {
        // With the two counters of an `Arc`, malloc rounds it up to 112 bytes.
        assert!(size_of::<Record>() <= 88, "{}", size_of::<Record>());
    }
}
