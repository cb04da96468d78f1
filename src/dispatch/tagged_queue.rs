//! The queue behind [`Exits`](crate::Exits): entries, waiting threads, and an eventfd.

use std::collections::VecDeque;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::EventfdFlags;
use slab::Slab;

use crate::error::{AddError, BuildError, RecvError};
use crate::record::Record;
use crate::shared::Shared;
use crate::sync::wait_graph::{self, Node};
use crate::sys;
use crate::types::exit::Exit;

/// An exit, and the tag that its watch was added with.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tagged {
    /// The tag that was passed to [`Exits::add`](crate::Exits::add).
    pub tag: u64,
    /// The exit.
    pub exit: Exit,
}

pub(crate) struct ExitsQueue {
    state: Mutex<State>,
    /// An exit was delivered, or what is outstanding changed.
    changed: Condvar,
    /// Readable while `ready` is not empty, or `closed` is unreported.
    notifier: OwnedFd,
    capacity: usize,
    /// Cleared before the program's handle is dropped.
    has_receiver: AtomicBool,
}

/// A watch that nothing but the queue may keep.
pub(crate) struct KeptWatch {
    pub(crate) record: Arc<Record>,
    pub(crate) shared: Arc<Shared>,
}

/// Where the queue keeps a watch; `None` if it does not.
pub(crate) type WatchKey = Option<usize>;

pub(crate) struct State {
    /// Allocated once, for the whole capacity.
    ready: VecDeque<Tagged>,
    /// Added and not received: the exits in `ready`, and the processes that have not ended.
    outstanding: usize,
    /// A watcher ended before one of the outstanding processes did, which was not reported yet.
    closed: bool,
    /// The ring threads that are to deliver the exits not in `ready`, with the number of each.
    awaited: Vec<(Node, usize)>,
    /// The watches of processes that are not ours to reap and have not ended.
    kept: Slab<KeptWatch>,
    /// Threads that wait for `changed`.
    waiters: u32,
    /// The part of `waiters` that has edges in the wait graph.
    announced: u32,
    /// Whether the notifier is readable.
    readable: bool,
}

impl State {
    pub(crate) fn outstanding(&self) -> usize {
        self.outstanding
    }
}

impl ExitsQueue {
    pub(crate) fn new(capacity: usize) -> Result<Self, BuildError> {
        let notifier = sys::open_eventfd(EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(BuildError::from_eventfd)?;
        let mut ready = VecDeque::new();
        ready
            .try_reserve_exact(capacity)
            .map_err(|_| BuildError::OutOfMemory)?;
        Ok(Self {
            state: Mutex::new(State {
                ready,
                outstanding: 0,
                closed: false,
                awaited: Vec::new(),
                kept: Slab::new(),
                waiters: 0,
                announced: 0,
                readable: false,
            }),
            changed: Condvar::new(),
            notifier,
            capacity,
            has_receiver: AtomicBool::new(true),
        })
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(crate) fn has_receiver(&self) -> bool {
        self.has_receiver.load(Ordering::Relaxed)
    }

    /// Ends the queue, and returns the watches that it kept.
    pub(crate) fn drop_receiver(&self) -> Slab<KeptWatch> {
        // Before a lock of a record is taken: see `Record::drop_queue`.
        self.has_receiver.store(false, Ordering::Relaxed);
        mem::take(&mut self.lock().kept)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock panics half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves an entry for an exit from `ring_thread`, and keeps the watch until then.
    pub(crate) fn reserve(
        &self,
        ring_thread: Node,
        kept: Option<KeptWatch>,
    ) -> Result<WatchKey, AddError> {
        let mut state = self.lock();
        if state.outstanding == self.capacity {
            return Err(AddError::Full {
                capacity: self.capacity,
            });
        }
        state.outstanding += 1;
        let mut awaited = state.awaited.iter_mut();
        match awaited.find(|(node, _)| *node == ring_thread) {
            Some((_, count)) => *count += 1,
            None => {
                state.awaited.push((ring_thread, 1));
                self.wake_announced(&state);
            }
        }
        Ok(kept.map(|watch| state.kept.insert(watch)))
    }

    /// Fills a reserved entry.
    pub(crate) fn deliver(&self, ring_thread: Node, watch: WatchKey, tagged: Tagged) {
        let mut state = self.lock();
        let kept = self.remove_awaited(&mut state, ring_thread, watch);
        state.ready.push_back(tagged);
        self.set_readable(&mut state);
        if state.waiters > 0 {
            self.changed.notify_one();
        }
        drop(state);
        drop(kept);
    }

    /// Releases a reserved entry of a watch that was not added.
    pub(crate) fn release(&self, ring_thread: Node, watch: WatchKey) {
        let mut state = self.lock();
        let kept = self.remove_awaited(&mut state, ring_thread, watch);
        state.outstanding -= 1;
        if state.waiters > 0 {
            self.changed.notify_all();
        }
        drop(state);
        drop(kept);
    }

    /// Releases a reserved entry whose exit will never be delivered, and reports that.
    pub(crate) fn close(&self, ring_thread: Node, watch: WatchKey) {
        let mut state = self.lock();
        let kept = self.remove_awaited(&mut state, ring_thread, watch);
        state.outstanding -= 1;
        state.closed = true;
        self.set_readable(&mut state);
        self.changed.notify_all();
        drop(state);
        drop(kept);
    }

    pub(crate) fn pop(&self, state: &mut State) -> Option<Tagged> {
        let tagged = state.ready.pop_front()?;
        state.outstanding -= 1;
        if state.ready.is_empty() && !state.closed {
            self.clear_readable(state);
        }
        if state.outstanding == 0 && state.waiters > 0 {
            // Nothing would wake the other threads that wait.
            self.changed.notify_all();
        }
        Some(tagged)
    }

    /// Whether a watcher ended that was to deliver an exit. Returns `true` once. Called when
    /// `ready` is empty.
    pub(crate) fn take_closed(&self, state: &mut State) -> bool {
        let closed = mem::take(&mut state.closed);
        if closed {
            self.clear_readable(state);
        }
        closed
    }

    /// Waits for a change, for at most `timeout`. Spurious wake-ups are possible.
    pub(crate) fn wait_for_change<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        timeout: Option<Duration>,
    ) -> Result<MutexGuard<'a, State>, RecvError> {
        // The ring thread of any watcher: it may be the one that is to deliver the exits.
        if wait_graph::is_ring_thread() {
            return Err(RecvError::WouldDeadlock);
        }
        // Announced again for each wait, because the awaited ring threads may have changed.
        let ring_threads = state.awaited.iter().map(|(ring_thread, _)| *ring_thread);
        let waiting = wait_graph::wait_for_any(ring_threads).ok_or(RecvError::WouldDeadlock)?;
        let announced = u32::from(waiting.is_announced());
        state.waiters += 1;
        state.announced += announced;
        let mut state = match timeout {
            None => self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner),
            Some(timeout) => {
                self.changed
                    .wait_timeout(state, timeout)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            }
        };
        state.waiters -= 1;
        state.announced -= announced;
        Ok(state)
    }

    /// Counts one exit less that `ring_thread` is to deliver. Returns its watch if the queue kept it,
    /// to be dropped without the lock.
    fn remove_awaited(
        &self,
        state: &mut State,
        ring_thread: Node,
        watch: WatchKey,
    ) -> Option<KeptWatch> {
        let kept = watch.and_then(|key| state.kept.try_remove(key));
        let mut awaited = state.awaited.iter_mut().enumerate();
        let Some((index, (_, count))) = awaited.find(|(_, (node, _))| *node == ring_thread) else {
            return kept;
        };
        *count -= 1;
        if *count == 0 {
            state.awaited.swap_remove(index);
            self.wake_announced(state);
        }
        kept
    }

    /// Wakes the threads that have edges in the wait graph, so that they announce the changed set
    /// of ring threads.
    fn wake_announced(&self, state: &State) {
        if state.announced > 0 {
            self.changed.notify_all();
        }
    }

    fn set_readable(&self, state: &mut State) {
        if !state.readable {
            state.readable = true;
            sys::signal_eventfd(&self.notifier);
        }
    }

    fn clear_readable(&self, state: &mut State) {
        if mem::take(&mut state.readable) {
            // The eventfd is nonblocking and readable, so the read resets it.
            let _ = rustix::io::read(&self.notifier, &mut [0; 8]);
        }
    }
}

impl AsFd for ExitsQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.notifier.as_fd()
    }
}
