//! The state that the handles, the ring thread and the workers of one watcher share.
//!
//! Handles check [`check_process`](Shared::check_process) before they take any lock. This module
//! takes one lock at a time: that of the mailbox, of the exit queue, or of the starters.

use std::sync::{Arc, OnceLock};

use crate::api::starters::Starters;
use crate::backend::{SelectedBackend, Stop};
use crate::dispatch::exit_queue::ExitQueue;
use crate::dispatch::orphan_queue::OrphanQueue;
use crate::dispatch::queued::Queued;
use crate::error::{Closed, WatchError};
use crate::ring_thread::mailbox::Mailbox;
use crate::spawn::starts::Starts;
use crate::sync::per_process::ProcessIdentity;
use crate::sync::wait_graph::Node;
use crate::sys::SignalMask;
#[cfg(test)]
use crate::types::stats::Counter;
use crate::types::stats::{Counters, Stats};

/// What the builder sets and the threads of the watcher need to know.
#[derive(Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) max_watches: usize,
    /// Whether callbacks run on the ring thread, because there are no workers.
    pub(crate) inline: bool,
    /// Whether the usage of children is read.
    pub(crate) usage: bool,
    /// Whether orphans are reaped.
    pub(crate) subreaper: bool,
}

/// The shared state of one watcher.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    /// The process that built the watcher. A forked child has none of its threads, and its locks
    /// may stay locked there forever.
    process: ProcessIdentity,
    pub(crate) mailbox: Mailbox,
    pub(crate) queue: ExitQueue<Queued>,
    pub(crate) starters: Starters,
    pub(crate) counters: Counters,
    pub(crate) starts: Starts,
    /// Where the exits of orphans go.
    pub(crate) orphan_queue: OrphanQueue,
    /// The signal mask of the thread that built the watcher.
    pub(crate) signal_mask: SignalMask,
    pub(crate) stop: Arc<Stop>,
    /// How many exits were passed to workers unread.
    #[cfg(test)]
    pub(crate) passed: Counter,
    /// The node of the ring thread in the wait graph.
    pub(crate) ring_thread: Node,
    death: OnceLock<String>,
    /// Set before the builder returns the watcher.
    backend: OnceLock<SelectedBackend>,
}

impl Shared {
    pub(crate) fn new(
        mailbox: Mailbox,
        queue: ExitQueue<Queued>,
        starters: Starters,
        settings: Settings,
        signal_mask: SignalMask,
    ) -> Self {
        Self {
            settings,
            process: ProcessIdentity::current(),
            mailbox,
            queue,
            starters,
            counters: Counters::default(),
            starts: Starts::default(),
            orphan_queue: OrphanQueue::default(),
            signal_mask,
            stop: Arc::default(),
            #[cfg(test)]
            passed: Counter::default(),
            ring_thread: Node::next(),
            death: OnceLock::new(),
            backend: OnceLock::new(),
        }
    }

    /// Checks that this is the process that built the watcher. Called before any lock is taken.
    pub(crate) fn check_process(&self) -> Result<(), Closed> {
        match self.process.is_current() {
            true => Ok(()),
            false => Err(Closed::ForkedChild),
        }
    }

    /// Whether the watcher is being dropped.
    pub(crate) fn stopping(&self) -> bool {
        self.stop.is_stopping()
    }

    /// Checks that the ring thread still accepts commands.
    pub(crate) fn check_open(&self) -> Result<(), Closed> {
        match self.mailbox.is_closed() {
            true => Err(self.closed_reason()),
            false => Ok(()),
        }
    }

    /// Why the watcher is closed. Called when it is known to be.
    pub(crate) fn closed_reason(&self) -> Closed {
        match self.stopping() {
            true => Closed::Dropped,
            false => Closed::RingThreadDied,
        }
    }

    /// Starts the end of the watcher: stops the ring thread, and closes the queues to the other
    /// threads.
    pub(crate) fn stop(&self) {
        self.starters.close(Closed::Dropped);
        self.stop.stop();
        self.mailbox.request_stop();
        self.queue.close();
    }

    /// Sets the backend that the ring thread has opened.
    pub(crate) fn set_backend(&self, backend: SelectedBackend) {
        let _ = self.backend.set(backend);
    }

    /// Checks that the backend can watch a process by its pidfd, not owned children only.
    pub(crate) fn check_pidfds(&self) -> Result<(), WatchError> {
        match self.backend.get().and_then(|backend| backend.no_pidfds) {
            None => Ok(()),
            Some(errno) => Err(WatchError::PidfdDenied { errno }),
        }
    }

    /// Sets the reason why the ring thread died. The first one is kept.
    pub(crate) fn set_death(&self, reason: String) {
        let _ = self.death.set(reason);
    }

    /// The reason why the ring thread died, if it did.
    pub(crate) fn death(&self) -> Option<&str> {
        self.death.get().map(String::as_str)
    }

    /// A snapshot of the counters, and of the lengths of the queues.
    pub(crate) fn stats(&self) -> Stats {
        let counters = &self.counters;
        let backend = self.backend.get();
        let own_descriptors = backend.map_or(0, |backend| backend.descriptors);
        Stats {
            backend: backend.map_or("", |backend| backend.name),
            fallback: backend.and_then(|backend| backend.fallback.clone()),
            watched: counters.watched.get(),
            armed: counters.armed.get(),
            queued: self.queue.len() as u64,
            backlog: counters.backlog.get(),
            delivered: counters.delivered.get(),
            unknown: counters.unknown.get(),
            callbacks: counters.callbacks.get(),
            panics: counters.panics.get(),
            stalls: counters.stalls.get(),
            orphans: counters.orphans.get(),
            enters: counters.enters.get(),
            descriptors: own_descriptors
                + counters.open_pidfds.get()
                + self.mailbox.pidfds() as u64,
            death: self.death.get().cloned(),
        }
    }
}
