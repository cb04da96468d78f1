//! The bounded queue between the ring thread and the workers.
//!
//! It is generic, because it does not use its entries. The ring thread pushes a batch under one
//! lock and never waits: what does not fit stays in its backlog, and the queue reports when it has
//! capacity again. Workers pop one entry at a time: the entries of a batch would have to wait for a
//! slow callback of its worker while another worker is free.
//!
//! A sleeping processor takes longer to wake up than the ring thread takes to reap a process. So,
//! when the program is otherwise idle, the ring thread *announces* an exit before it reaps: a worker
//! wakes up meanwhile, and finds the exit in the queue, or spins for a few microseconds until it is.

use std::collections::{TryReserveError, VecDeque};
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::sync::{Condvar, Mutex, MutexGuard};

/// How long a worker spins after an announcement. A reap takes a few microseconds.
const SPIN_MAX: Duration = Duration::from_micros(20);

pub(crate) struct ExitQueue<T> {
    inner: Mutex<Inner<T>>,
    capacity: usize,
    filled: Condvar,
    /// The number of pushes, for workers that spin.
    pushes: AtomicU64,
}

struct Inner<T> {
    /// Allocated once; never holds more than the capacity.
    entries: VecDeque<(T, Instant)>,
    /// Workers that wait on `filled`.
    idle_workers: usize,
    /// Announcements that no worker has woken up for yet.
    ///
    /// For each, `filled` was notified while a worker waited on it. So a worker will check the
    /// queue after the announcement, and one entry needs no notification. If a worker that was not
    /// notified counts it down first, a push notifies one too many.
    announced: usize,
    /// The producer has a backlog, and is to be woken when there is capacity.
    producer_waits: bool,
    /// No more entries will be pushed.
    closed: bool,
}

/// An entry that a worker has popped.
pub(crate) struct Popped<T> {
    pub(crate) value: T,
    /// When it was pushed, the same for all of a batch.
    pub(crate) queued_at: Instant,
    /// Whether the worker must wake the producer, which waits for capacity.
    pub(crate) wake_producer: bool,
}

impl<T> ExitQueue<T> {
    /// The size of one entry.
    #[cfg(test)]
    pub(crate) const ENTRY_BYTES: usize = size_of::<(T, Instant)>();

    /// `capacity` is at least 1.
    pub(crate) fn new(capacity: usize) -> Result<Self, TryReserveError> {
        let mut entries = VecDeque::new();
        entries.try_reserve_exact(capacity)?;
        Ok(Self {
            inner: Mutex::new(Inner {
                entries,
                idle_workers: 0,
                announced: 0,
                producer_waits: false,
                closed: false,
            }),
            capacity,
            filled: Condvar::new(),
            pushes: AtomicU64::new(0),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        // No code under the lock panics halfway.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves as much of `backlog` as fits, in order, and returns how many entries that was. If some
    /// are left, a worker will wake the producer when there is capacity.
    ///
    /// `account` gets that number before a worker can pop one of the entries.
    pub(crate) fn push_from(
        &self,
        backlog: &mut VecDeque<T>,
        account: impl FnOnce(usize),
    ) -> usize {
        let now = Instant::now();
        let mut inner = self.lock();
        let count = backlog.len().min(self.capacity - inner.entries.len());
        account(count);
        inner
            .entries
            .extend(backlog.drain(..count).map(|value| (value, now)));
        inner.producer_waits = !backlog.is_empty();
        // As many workers as there are entries check the queue, with those that wake up already.
        let wake = inner.idle_workers.saturating_sub(inner.announced);
        let wake = wake
            .min(inner.entries.len().saturating_sub(inner.announced))
            .min(count);
        // Spinning workers check the queue under the lock afterwards.
        self.pushes.fetch_add(1, Ordering::Relaxed);
        drop(inner);
        for _ in 0..wake {
            self.filled.notify_one();
        }
        count
    }

    /// Wakes up an idle worker, because a push will follow within microseconds.
    pub(crate) fn announce(&self) {
        let mut inner = self.lock();
        if inner.idle_workers <= inner.announced {
            return;
        }
        inner.announced += 1;
        drop(inner);
        self.filled.notify_one();
    }

    /// Pops the oldest entry, and waits for one. `None`: the queue is closed and empty.
    pub(crate) fn pop(&self) -> Option<Popped<T>> {
        let mut inner = self.lock();
        loop {
            let popped = self.take(&mut inner);
            if popped.is_some() || inner.closed {
                return popped;
            }
            inner.idle_workers += 1;
            inner = self
                .filled
                .wait(inner)
                .unwrap_or_else(PoisonError::into_inner);
            inner.idle_workers -= 1;
            if inner.announced > 0 {
                inner.announced -= 1;
                if inner.entries.is_empty() && !inner.closed {
                    let pushes = self.pushes.load(Ordering::Relaxed);
                    drop(inner);
                    self.spin_until_push(pushes);
                    inner = self.lock();
                }
            }
        }
    }

    /// Spins until there are more than `pushes` pushes, for a short time at most.
    fn spin_until_push(&self, pushes: u64) {
        // A model has no time.
        if cfg!(exitring_loom) {
            return;
        }
        let start = Instant::now();
        while self.pushes.load(Ordering::Relaxed) == pushes && start.elapsed() < SPIN_MAX {
            std::hint::spin_loop();
        }
    }

    /// Pops the oldest entry, if there is one.
    pub(crate) fn try_pop(&self) -> Option<Popped<T>> {
        self.take(&mut self.lock())
    }

    fn take(&self, inner: &mut Inner<T>) -> Option<Popped<T>> {
        let (value, queued_at) = inner.entries.pop_front()?;
        // Half empty, so that the producer is woken once per half queue and not once per exit.
        let wake_producer = inner.producer_waits && inner.entries.len() <= self.capacity / 2;
        if wake_producer {
            inner.producer_waits = false;
        }
        Some(Popped {
            value,
            queued_at,
            wake_producer,
        })
    }

    /// How many entries are queued.
    pub(crate) fn len(&self) -> usize {
        self.lock().entries.len()
    }

    /// Closes the queue. Workers pop what is left and then get `None`.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_all();
    }

    /// Removes all entries.
    pub(crate) fn drain(&self) -> VecDeque<(T, Instant)> {
        std::mem::take(&mut self.lock().entries)
    }
}

#[cfg(test)]
#[allow(
    unused_imports,
    reason = "a benchmark includes this file, without its tests"
)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn entries_that_do_not_fit_stay_in_the_backlog() {
        let queue = ExitQueue::new(3).expect("enough memory");
        let mut backlog: VecDeque<_> = (0..5).collect();
        assert_eq!(queue.push_from(&mut backlog, |_| ()), 3);
        assert_eq!(backlog, [3, 4]);
        assert_eq!(queue.push_from(&mut backlog, |_| ()), 0);

        // The producer is woken once, at half: a capacity of 3 is half empty with one entry left.
        let woken: Vec<_> = (0..3)
            .map(|expected| {
                let popped = queue.pop().expect("three are in");
                assert_eq!(popped.value, expected);
                popped.wake_producer
            })
            .collect();
        assert_eq!(woken, [false, true, false]);
        assert_eq!(queue.push_from(&mut backlog, |_| ()), 2);
        queue.close();
        assert_eq!(queue.pop().map(|p| p.value), Some(3));
        assert_eq!(queue.pop().map(|p| p.value), Some(4));
        assert!(queue.pop().is_none());
    }

    #[test]
    fn entries_are_accounted_for_before_a_worker_has_them() {
        let queue = ExitQueue::new(1).expect("enough memory");
        let accounted = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                let mut seen = Vec::new();
                while let Some(popped) = queue.pop() {
                    seen.push((popped.value, accounted.load(Ordering::SeqCst)));
                }
                seen
            });
            for value in 1..=20 {
                // The last entry is popped, and the worker waits, or spins for the entry.
                while queue.lock().entries.len() == 1 {
                    std::thread::yield_now();
                }
                queue.announce();
                queue.push_from(&mut VecDeque::from([value]), |count| {
                    std::thread::sleep(Duration::from_millis(1));
                    accounted.fetch_add(count, Ordering::SeqCst);
                });
            }
            queue.close();
            for (value, accounted) in worker.join().expect("no panic") {
                assert!(accounted >= value, "{accounted} of {value}");
            }
        });
    }

    #[test]
    fn an_announced_entry_is_popped_and_an_announcement_without_one_does_no_harm() {
        let queue = ExitQueue::new(100).expect("enough memory");
        // No worker is idle.
        queue.announce();
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                let mut seen = Vec::new();
                while let Some(popped) = queue.pop() {
                    seen.push(popped.value);
                }
                seen
            });
            for value in 0..100 {
                while queue.lock().idle_workers == 0 {
                    std::thread::yield_now();
                }
                queue.announce();
                queue.announce();
                if value % 3 == 0 {
                    // The worker gives up spinning.
                    while queue.lock().announced > 0 {
                        std::thread::yield_now();
                    }
                }
                queue.push_from(&mut VecDeque::from([value]), |_| ());
            }
            queue.announce();
            queue.close();
            assert_eq!(worker.join().expect("no panic"), Vec::from_iter(0..100));
        });
    }

    #[test]
    fn one_announcement_covers_one_entry() {
        let queue = ExitQueue::new(2).expect("enough memory");
        let both_popped = std::sync::Barrier::new(2);
        let done = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while queue.pop().is_some() {
                        // Neither returns before both entries are popped.
                        both_popped.wait();
                        done.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            for round in 0..50 {
                while done.load(Ordering::SeqCst) < 2 * round || queue.lock().idle_workers < 2 {
                    std::thread::yield_now();
                }
                // The announced worker may not run before both are pushed.
                queue.announce();
                assert_eq!(queue.push_from(&mut VecDeque::from([1]), |_| ()), 1);
                assert_eq!(queue.push_from(&mut VecDeque::from([2]), |_| ()), 1);
            }
            queue.close();
        });
        assert_eq!(done.into_inner(), 100);
    }

    #[test]
    fn a_queue_of_one_delivers_each_entry_once_and_in_order() {
        const ITEMS: usize = 10_000;
        let queue = ExitQueue::new(1).expect("enough memory");
        let notifier = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                let mut seen = Vec::new();
                while let Some(popped) = queue.pop() {
                    seen.push(popped.value);
                    if popped.wake_producer {
                        notifier.fetch_add(1, Ordering::Release);
                    }
                }
                seen
            });
            let mut backlog: VecDeque<_> = (0..ITEMS).collect();
            let mut woken = 0;
            loop {
                queue.push_from(&mut backlog, |_| ());
                if backlog.is_empty() {
                    break;
                }
                // Like the ring thread, it does not push again before it is woken.
                while notifier.load(Ordering::Acquire) == woken {
                    std::thread::yield_now();
                }
                woken += 1;
            }
            queue.close();
            assert_eq!(worker.join().expect("no panic"), Vec::from_iter(0..ITEMS));
        });
    }
}
