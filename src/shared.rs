//! What the handles, the ring thread and the workers of one watcher share.

use std::cell::Cell;
use std::sync::{Arc, OnceLock};

use crate::backend::{SelectedBackend, Stop};
use crate::dispatch::exit_queue::ExitQueue;
use crate::error::{Closed, WatchError};
use crate::record::delivery_guard::DeliveryGuard;
use crate::ring_thread::mailbox::Mailbox;
use crate::sync::per_process::ProcessIdentity;
use crate::sync::wait_graph::Node;
use crate::sys::SignalMask;
use crate::types::stats::{Counters, Stats};

thread_local! {
    /// The process in which this is a ring thread. A forked child goes on as a copy of the thread that forked, and may build
    /// a watcher of its own and wait.
    static RING_THREAD_OF: Cell<Option<ProcessIdentity>> = const { Cell::new(None) };
}

/// This is a ring thread from here on.
pub(crate) fn mark_ring_thread() {
    RING_THREAD_OF.set(Some(ProcessIdentity::current()));
}

/// Whether this is the ring thread of some watcher.
pub(crate) fn is_ring_thread() -> bool {
    RING_THREAD_OF
        .get()
        .is_some_and(ProcessIdentity::is_current)
}

pub(crate) struct Shared {
    /// The process that built the watcher: in a forked child its threads are not there,
    /// and its locks may stay locked for ever.
    process: ProcessIdentity,
    pub(crate) mailbox: Mailbox,
    pub(crate) queue: ExitQueue<DeliveryGuard>,
    pub(crate) max_watches: usize,
    /// No worker threads: callbacks run on the ring thread.
    pub(crate) inline: bool,
    pub(crate) counters: Counters,
    /// The signals that the builder's thread had blocked.
    pub(crate) signal_mask: SignalMask,
    pub(crate) stop: Arc<Stop>,
    /// The ring thread, in the graph of what waits for what.
    pub(crate) ring_thread: Node,
    death: OnceLock<String>,
    /// Known before the builder gives the watcher out.
    backend: OnceLock<SelectedBackend>,
}

impl Shared {
    pub(crate) fn new(
        mailbox: Mailbox,
        queue: ExitQueue<DeliveryGuard>,
        max_watches: usize,
        inline: bool,
        signal_mask: SignalMask,
    ) -> Self {
        Self {
            process: ProcessIdentity::current(),
            mailbox,
            queue,
            max_watches,
            inline,
            counters: Counters::default(),
            signal_mask,
            stop: Arc::default(),
            ring_thread: Node::next(),
            death: OnceLock::new(),
            backend: OnceLock::new(),
        }
    }

    /// Whether this is the process that built the watcher. Asked before any
    /// lock is touched.
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

    /// Whether commands are still taken.
    pub(crate) fn check_open(&self) -> Result<(), Closed> {
        match self.mailbox.is_closed() {
            true => Err(self.why_closed()),
            false => Ok(()),
        }
    }

    /// Why nothing is served any more, asked when that is known.
    pub(crate) fn why_closed(&self) -> Closed {
        match self.stopping() {
            true => Closed::Dropped,
            false => Closed::RingThreadDied,
        }
    }

    pub(crate) fn stop(&self) {
        self.stop.stop();
        self.mailbox.request_stop();
        self.queue.close();
    }

    /// What the ring thread waits with.
    pub(crate) fn wait_with(&self, backend: SelectedBackend) {
        let _ = self.backend.set(backend);
    }

    /// Whether processes can be watched by pidfd, and not only children that are ours.
    pub(crate) fn check_pidfds(&self) -> Result<(), WatchError> {
        match self.backend.get().and_then(|backend| backend.no_pidfds) {
            None => Ok(()),
            Some(errno) => Err(WatchError::PidfdDenied { errno }),
        }
    }

    pub(crate) fn died(&self, why: String) {
        let _ = self.death.set(why);
    }

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
            enters: counters.enters.get(),
            descriptors: own_descriptors + counters.held.get() + self.mailbox.pidfds() as u64,
            death: self.death.get().cloned(),
        }
    }
}
