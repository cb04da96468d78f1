//! What a watcher has done, and holds.

use std::sync::atomic::{AtomicU64, Ordering};

/// A reading of a watcher's counters and gauges. Each number is exact; together they
/// are read while the watcher goes on, so sums may be off by what happens meanwhile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// What the watcher waits with: `"io_uring"`, `"epoll"`, or, where not even pidfds are to be had, `"threads"`: one for each
    /// owned child, 256 at most (children beyond are looked at every 10 ms, or every 20 µs times their number).
    pub backend: &'static str,
    /// Why it is no better one than it is, if that was not the caller's choice.
    pub fallback: Option<String>,
    /// Processes being watched: registered, and their exit not yet handed on.
    pub watched: u64,
    /// Of these, the ones with a poll armed in the kernel.
    pub armed: u64,
    /// Exits in the queue that no worker has taken yet.
    pub queued: u64,
    /// Exits that wait for room in the queue.
    pub backlog: u64,
    /// Exits seen, ever.
    pub delivered: u64,
    /// Of these, the ones whose status could not be told ([`Outcome::Unknown`](crate::Outcome::Unknown)).
    pub unknown: u64,
    /// Callbacks run to their end, ever, those that panicked included.
    pub callbacks: u64,
    /// Callbacks that panicked, ever.
    pub panics: u64,
    /// How often exits found the queue full and had to be parked.
    pub stalls: u64,
    /// How often the ring thread entered the kernel to wait (`io_uring_enter`, which also submits; `epoll_wait`; `poll`).
    pub enters: u64,
    /// Descriptors the watcher holds between its wake-ups: three of its own (one of which it gives up when there
    /// is no other; with epoll two), one for each [`watch`](crate::Watcher::watch) on its way to the ring thread, and before
    /// Linux 6.9 one for each watch on what is not its own, with epoll one for each watch. [`Exits`](crate::Exits) have one each, not counted here.
    pub descriptors: u64,
    /// Why the ring thread died, if it did; from then on every call gets
    /// [`Closed::RingThreadDied`](crate::Closed::RingThreadDied).
    pub death: Option<String>,
}

/// The live numbers. `Relaxed` throughout: they order nothing.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) watched: Counter,
    pub(crate) armed: Counter,
    pub(crate) held: Counter,
    pub(crate) backlog: Counter,
    pub(crate) delivered: Counter,
    pub(crate) unknown: Counter,
    pub(crate) stalls: Counter,
    pub(crate) enters: Counter,
    pub(crate) callbacks: Counter,
    pub(crate) panics: Counter,
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

    /// One more, unless that would be more than `limit`.
    pub(crate) fn add_one_within(&self, limit: u64) -> bool {
        let within = self.0.fetch_add(1, Ordering::Relaxed) < limit;
        if !within {
            self.sub(1);
        }
        within
    }

    /// For gauges that one thread keeps. Who reads this one sees what was set before it, too.
    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Release);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}
