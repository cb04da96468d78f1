//! Counters and gauges of a watcher.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::types::exit::Outcome;

/// A snapshot of a watcher's counters and gauges.
///
/// Each number is exact. They are read one after the other while the watcher keeps running, so
/// sums can be off by the events in between.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The backend: `"io_uring"`, `"epoll"`, or, where pidfds are denied, `"threads"`. The last
    /// has one thread for each owned child, at most 256; further children are polled every 10 ms
    /// (or every 20 µs times their number, if that is longer).
    pub backend: &'static str,
    /// Why the watcher fell back to this backend; `None` if it is the best one or was requested.
    pub fallback: Option<String>,
    /// Watched processes: registered, and their exit not yet dispatched.
    pub watched: u64,
    /// The part of `watched` that has a poll armed in the kernel.
    pub armed: u64,
    /// Exits in the queue to the workers.
    pub queued: u64,
    /// Exits that wait in the ring thread because the queue is full.
    pub backlog: u64,
    /// Exits delivered so far.
    pub delivered: u64,
    /// The part of `delivered` with an unknown status
    /// ([`Outcome::Unknown`]).
    pub unknown: u64,
    /// Callbacks that have returned or panicked so far.
    pub callbacks: u64,
    /// Callbacks that have panicked so far.
    pub panics: u64,
    /// Exits so far that found the queue full and went to the backlog.
    pub stalls: u64,
    /// Orphans reaped so far (see [`Builder::subreaper`](crate::Builder::subreaper)).
    pub orphans: u64,
    /// How often the ring thread entered the kernel to wait (`io_uring_enter`, which also submits;
    /// `epoll_wait`; `poll`).
    pub enters: u64,
    /// Descriptors that the watcher holds between two wake-ups:
    ///
    /// - four of its own (two with epoll), one of which it gives up when no other is free;
    /// - one for each watch that the ring thread has not taken yet, and, while registrations follow
    ///   one another quickly, for up to 64 watches of the last milliseconds;
    /// - with epoll, one for each watch; before Linux 6.9, one for each watch of a process that
    ///   is not an owned child.
    ///
    /// Each [`Exits`](crate::Exits) has one more, which is not counted.
    pub descriptors: u64,
    /// Why the ring thread died. From then on every call returns
    /// [`Closed::RingThreadDied`](crate::Closed::RingThreadDied).
    pub death: Option<String>,
}

/// The live numbers. Counters are `Relaxed`: they order nothing.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) watched: Counter,
    pub(crate) armed: Counter,
    pub(crate) open_pidfds: Counter,
    pub(crate) backlog: Counter,
    pub(crate) delivered: Counter,
    pub(crate) unknown: Counter,
    pub(crate) stalls: Counter,
    pub(crate) orphans: Counter,
    pub(crate) enters: Counter,
    pub(crate) callbacks: Counter,
    pub(crate) panics: Counter,
}

impl Counters {
    /// Counts an exit that was stored.
    pub(crate) fn count_delivery(&self, outcome: Outcome) {
        self.delivered.add(1);
        if matches!(outcome, Outcome::Unknown(_)) {
            self.unknown.add(1);
        }
    }
}

#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Ordering::Relaxed);
    }

    /// Adds one unless the result would exceed `limit`. Returns whether it did.
    pub(crate) fn add_one_within(&self, limit: u64) -> bool {
        let within = self.0.fetch_add(1, Ordering::Relaxed) < limit;
        if !within {
            self.sub(1);
        }
        within
    }

    /// Sets a gauge that only one thread writes. A thread that reads the value also sees the
    /// gauges that were set before it.
    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Release);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}
