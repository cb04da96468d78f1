//! The bounded queue between the ring thread and the workers.
//!
//! It is generic, because it does not use its entries. The ring thread pushes a batch under one
//! lock and never waits: what does not fit stays in its backlog, and the queue reports when it has
//! capacity again. Workers pop one entry at a time: the entries of a batch would have to wait for a
//! slow callback of its worker while another worker is free.

use std::collections::{TryReserveError, VecDeque};
use std::sync::PoisonError;
use std::time::Instant;

use crate::sync::{Condvar, Mutex, MutexGuard};

pub(crate) struct ExitQueue<T> {
    inner: Mutex<Inner<T>>,
    capacity: usize,
    filled: Condvar,
}

struct Inner<T> {
    /// Allocated once; never holds more than the capacity.
    entries: VecDeque<(T, Instant)>,
    /// Workers that wait on `filled`.
    idle_workers: usize,
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
                producer_waits: false,
                closed: false,
            }),
            capacity,
            filled: Condvar::new(),
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
        // Each call wakes another worker, as those that were woken before no longer wait.
        let wake = inner.idle_workers.min(count);
        drop(inner);
        for _ in 0..wake {
            self.filled.notify_one();
        }
        count
    }

    /// Pushes an entry if there is an idle worker for it, which is woken. Otherwise returns it. The
    /// caller has no backlog, which this entry would overtake.
    ///
    /// As each entry before it has an idle worker too, no callback runs before this entry is popped
    /// that it could wait for. A busy worker may pop it earlier.
    pub(crate) fn push_to_idle(&self, value: T) -> Result<(), T> {
        let now = Instant::now();
        let mut inner = self.lock();
        // Each entry in the queue takes one of the idle workers.
        let idle = inner.idle_workers > inner.entries.len();
        if !idle || inner.entries.len() >= self.capacity || inner.closed {
            return Err(value);
        }
        inner.entries.push_back((value, now));
        drop(inner);
        self.filled.notify_one();
        Ok(())
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
        }
    }

    /// Pops the oldest entry, if there is one. `with_next` gets the two entries after it.
    pub(crate) fn try_pop(
        &self,
        with_next: impl FnOnce(Option<&T>, Option<&T>),
    ) -> Option<Popped<T>> {
        let mut inner = self.lock();
        let popped = self.take(&mut inner);
        let next = |index: usize| inner.entries.get(index).map(|(value, _)| value);
        with_next(next(0), next(1));
        popped
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
    use std::time::Duration;

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
        let account = |count| {
            std::thread::sleep(Duration::from_millis(1));
            accounted.fetch_add(count, Ordering::SeqCst);
        };
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                let mut seen = Vec::new();
                while let Some(popped) = queue.pop() {
                    seen.push((popped.value, accounted.load(Ordering::SeqCst)));
                }
                seen
            });
            for value in 1..=20 {
                until_idle(&queue, 1);
                let pushed = queue.push_from(&mut VecDeque::from([value]), account);
                assert_eq!(pushed, 1);
            }
            queue.close();
            let seen = worker.join().expect("no panic");
            assert!(seen.iter().map(|(value, _)| *value).eq(1..=20));
            for (value, accounted) in seen {
                assert!(accounted >= value, "{accounted} of {value}");
            }
        });
    }

    /// Waits until so many workers wait for entries, and none is queued.
    fn until_idle<T>(queue: &ExitQueue<T>, workers: usize) {
        loop {
            let inner = queue.lock();
            if inner.idle_workers == workers && inner.entries.is_empty() {
                return;
            }
            drop(inner);
            std::thread::yield_now();
        }
    }

    #[test]
    fn an_entry_for_an_idle_worker_is_refused_unless_one_is_free_for_it() {
        let queue = ExitQueue::new(3).expect("enough memory");
        assert_eq!(queue.push_to_idle(0), Err(0));
        let refused = std::sync::Barrier::new(3);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while queue.pop().is_some() {
                        // Each pops one entry.
                        refused.wait();
                    }
                });
            }
            for _ in 0..50 {
                until_idle(&queue, 2);
                // The workers may have popped by the next push, or not.
                let pushed = [1, 2, 3].map(|value| queue.push_to_idle(value));
                refused.wait();
                assert_eq!(pushed, [Ok(()), Ok(()), Err(3)]);
            }
            until_idle(&queue, 2);
            queue.close();
            assert_eq!(queue.push_to_idle(0), Err(0));
        });
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
