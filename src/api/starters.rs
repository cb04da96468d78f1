//! The threads that start commands for futures.
//!
//! A start blocks until the program is executed. These threads block instead of those of an
//! executor. They are started when they are needed, at most as many as
//! [`Builder::starters`](crate::Builder::starters) says, and end with the watcher.
//!
//! One lock protects the queue and the count of idle threads, and each request has its own, which may
//! be taken under the first, never the other way round. No user code runs, or is dropped, under
//! either.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::task::Waker;
use std::{mem, thread};

use super::spawnable::Spawn;
use super::watcher::Threads;
use crate::error::{Closed, SpawnError};
use crate::faults;
use crate::record::drop_catching_panics;
use crate::shared::Shared;
use crate::sync::signal_mask::{self, apply_builder_mask, restore_own_mask};
use crate::sync::wait_graph::{self, Node};
use crate::sync::{Condvar, Mutex, MutexGuard};
use crate::{Child, ProcessLimit};

/// The threads of one watcher, and their queue.
pub(crate) struct Starters {
    threads_max: usize,
    inner: Mutex<Inner>,
    /// Notified when a request is added, and when the watcher ends.
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    /// At most one for each future that is alive or keeps its child.
    requests: VecDeque<Arc<Request>>,
    threads: Threads,
    /// How many of the requests are of futures that were dropped.
    gone: usize,
    /// Threads that wait for a request.
    idle: usize,
    /// Why no more requests are accepted.
    closed: Option<Closed>,
}

impl Starters {
    pub(crate) fn new(threads_max: usize) -> Self {
        Self {
            threads_max,
            inner: Mutex::new(Inner::default()),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No code under the lock panics halfway.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a request, and starts a thread if all are busy.
    pub(super) fn submit(shared: &Arc<Shared>, request: &Arc<Request>) -> Result<(), SpawnError> {
        let starters = &shared.starters;
        let mut inner = starters.lock();
        if let Some(closed) = inner.closed {
            return Err(SpawnError::Refused(closed.into()));
        }
        if inner.requests.len() >= inner.idle && inner.threads.len() < starters.threads_max {
            match start_thread(shared, inner.threads.len()) {
                Ok(thread) => inner.threads.push(thread),
                // The other threads carry out the request later.
                Err(_) if !inner.threads.is_empty() => {}
                Err(error) => {
                    return Err(match error.raw_os_error() {
                        Some(libc::EAGAIN) => SpawnError::NoProcesses(ProcessLimit::find()),
                        _ => SpawnError::OutOfMemory,
                    });
                }
            }
        }
        inner.requests.push_back(Arc::clone(request));
        drop(inner);
        starters.changed.notify_one();
        Ok(())
    }

    /// Counts a request whose future was dropped. Such requests are removed together, so that the
    /// cost of each does not grow with the queue.
    fn remove_later(&self) {
        let mut inner = self.lock();
        inner.gone += 1;
        if inner.gone * 2 > inner.requests.len() {
            inner.requests.retain(|request| !request.is_gone());
            inner.gone = 0;
        }
    }

    /// The next request; `None` at the end of the watcher.
    fn next(&self) -> Option<Arc<Request>> {
        let mut inner = self.lock();
        loop {
            if inner.closed.is_some() {
                return None;
            }
            if let Some(request) = inner.requests.pop_front() {
                if request.is_gone() {
                    inner.gone = inner.gone.saturating_sub(1);
                    continue;
                }
                return Some(request);
            }
            if signal_mask::is_builder_mask_active() {
                drop(inner);
                restore_own_mask();
                inner = self.lock();
                continue;
            }
            inner.idle += 1;
            inner = self
                .changed
                .wait(inner)
                .unwrap_or_else(PoisonError::into_inner);
            inner.idle -= 1;
        }
    }

    /// Refuses the requests that have not been started, and all later ones. The threads end.
    pub(crate) fn close(&self, reason: Closed) {
        let mut inner = self.lock();
        inner.closed = Some(reason);
        let requests = mem::take(&mut inner.requests);
        drop(inner);
        self.changed.notify_all();
        for request in requests {
            request.finish(Err(SpawnError::Refused(reason.into())));
        }
    }

    /// The threads, to be joined after [`close`](Self::close).
    pub(crate) fn take_threads(&self) -> Threads {
        mem::take(&mut self.lock().threads)
    }
}

fn start_thread(shared: &Arc<Shared>, index: usize) -> io::Result<(thread::JoinHandle<()>, Node)> {
    faults::inject("clone")?;
    let (shared, node) = (Arc::clone(shared), Node::next());
    let thread = thread::Builder::new().name(format!("exitring-s{index}"));
    let run = move || {
        signal_mask::with_builder_mask(shared.signal_mask, || {
            wait_graph::as_thread(node, &shared.stop, || {
                while let Some(request) = shared.starters.next() {
                    request.start(&shared);
                }
            });
        });
    };
    Ok((signal_mask::start_thread(thread, run)?, node))
}

/// The start of one command, which a future and a thread share.
pub(super) struct Request {
    /// Whether the child is to live on without the future.
    keep: AtomicBool,
    state: Mutex<State>,
}

enum State {
    Queued(Box<dyn Spawn + Send>, Option<Waker>),
    Starting(Option<Waker>),
    Finished(Box<Result<Child, SpawnError>>),
    /// The result was taken, or the future was dropped.
    Gone,
}

impl Request {
    pub(super) fn new(command: Box<dyn Spawn + Send>, waker: Waker) -> Self {
        Self {
            keep: AtomicBool::new(false),
            state: Mutex::new(State::Queued(command, Some(waker))),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code under the lock panics halfway.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The result. If there is none yet, the waker is called when there is.
    pub(super) fn poll(&self, new_waker: &Waker) -> Option<Result<Child, SpawnError>> {
        // A clone of a waker is code of the user.
        let new_waker = new_waker.clone();
        let mut state = self.lock();
        let replaced = match &mut *state {
            State::Queued(_, waker) | State::Starting(waker) => waker.replace(new_waker),
            State::Finished(_) => match mem::replace(&mut *state, State::Gone) {
                State::Finished(result) => return Some(*result),
                _ => None,
            },
            State::Gone => None,
        };
        drop(state);
        drop(replaced);
        None
    }

    pub(super) fn set_keep(&self) {
        self.keep.store(true, Ordering::Relaxed);
    }

    /// The future is dropped. A command that has not been started will not be, and a child is
    /// killed, unless it is to be kept.
    pub(super) fn abandon(&self, shared: &Shared) {
        if self.keep.load(Ordering::Relaxed) {
            return;
        }
        let before = mem::replace(&mut *self.lock(), State::Gone);
        match before {
            State::Queued(command, waker) => {
                shared.starters.remove_later();
                drop((command, waker));
            }
            State::Finished(result) => kill_started(*result),
            // The thread that starts it kills it.
            State::Starting(waker) => drop(waker),
            State::Gone => {}
        }
    }

    fn is_gone(&self) -> bool {
        matches!(*self.lock(), State::Gone)
    }

    /// Starts the command on this thread.
    fn start(&self, shared: &Arc<Shared>) {
        let mut state = self.lock();
        let mut command = match mem::replace(&mut *state, State::Gone) {
            State::Queued(command, waker) => {
                *state = State::Starting(waker);
                command
            }
            other => {
                *state = other;
                return;
            }
        };
        drop(state);
        // The child inherits the mask.
        apply_builder_mask();
        let started = catch_unwind(AssertUnwindSafe(|| shared.spawn(&mut *command)));
        let result = started.unwrap_or_else(|payload| {
            mem::forget(payload);
            Err(SpawnError::Other {
                program: command.program().to_owned(),
                source: io::Error::other("the start of the command panicked"),
            })
        });
        drop_catching_panics(command);
        self.finish(result);
    }

    /// Stores the result, and wakes up the future.
    fn finish(&self, result: Result<Child, SpawnError>) {
        let mut state = self.lock();
        let before = mem::replace(&mut *state, State::Gone);
        let waker = match before {
            State::Queued(command, waker) => {
                *state = State::Finished(Box::new(result));
                drop(state);
                drop_catching_panics(command);
                waker
            }
            State::Starting(waker) => {
                *state = State::Finished(Box::new(result));
                drop(state);
                waker
            }
            State::Finished(_) | State::Gone => {
                drop(state);
                return kill_started(result);
            }
        };
        if let Some(waker) = waker {
            apply_builder_mask();
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
                drop_catching_panics(payload);
            }
        }
    }
}

fn kill_started(result: Result<Child, SpawnError>) {
    if let Ok(child) = result {
        child.kill_all();
    }
}
