//! The bounded ring buffer between the ring thread and the workers.
//!
//! What goes through is generic, because what is queued is of no concern here. The ring thread puts in
//! a batch under one lock and never waits: what does not fit stays in its own backlog, and
//! the queue tells it when there is notifier. Workers take one at a time: a batch taken by
//! one worker would have to wait for that worker's slow callback while another is free.

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
    /// Allocated once: never holds more than the capacity.
    entries: VecDeque<(T, Instant)>,
    /// Workers in `filled`.
    idle_workers: usize,
    /// The producer has more and wants to hear of notifier.
    producer_waits: bool,
    /// No more will be put in.
    closed: bool,
}

/// What a worker got.
pub(crate) struct Popped<T> {
    pub(crate) value: T,
    /// When it was put in, the same for all of a batch.
    pub(crate) queued_at: Instant,
    /// The producer waits for notifier, and now there is enough: tell it.
    pub(crate) wake_producer: bool,
}

impl<T> ExitQueue<T> {
    /// What a place takes.
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
        // Nothing under the lock panics half-way.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves as much of `backlog` as fits, in order, and returns how much that was. If some is left, a
    /// worker will say when there is notifier.
    pub(crate) fn push_from(&self, backlog: &mut VecDeque<T>) -> usize {
        let now = Instant::now();
        let mut inner = self.lock();
        let count = backlog.len().min(self.capacity - inner.entries.len());
        inner
            .entries
            .extend(backlog.drain(..count).map(|value| (value, now)));
        inner.producer_waits = !backlog.is_empty();
        let wake = inner.idle_workers.min(count);
        drop(inner);
        for _ in 0..wake {
            self.filled.notify_one();
        }
        count
    }

    /// Takes the oldest, waiting for one. `None`: closed and empty.
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

    /// Takes the oldest, if there is one.
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

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.lock().entries.len()
    }

    /// Says that no more will come; workers take what is left and then get `None`.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_all();
    }

    /// Takes all that is left.
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
    fn what_does_not_fit_stays_in_line() {
        let queue = ExitQueue::new(3).expect("that much memory there is");
        let mut backlog: VecDeque<_> = (0..5).collect();
        assert_eq!(queue.push_from(&mut backlog), 3);
        assert_eq!(backlog, [3, 4]);
        assert_eq!(queue.push_from(&mut backlog), 0);

        // Room is woken once, at half: capacity 3 is half empty with one left.
        let woken: Vec<_> = (0..3)
            .map(|expected| {
                let popped = queue.pop().expect("three are in");
                assert_eq!(popped.value, expected);
                popped.wake_producer
            })
            .collect();
        assert_eq!(woken, [false, true, false]);
        assert_eq!(queue.push_from(&mut backlog), 2);
        queue.close();
        assert_eq!(queue.pop().map(|p| p.value), Some(3));
        assert_eq!(queue.pop().map(|p| p.value), Some(4));
        assert!(queue.pop().is_none());
    }

    #[test]
    fn a_queue_of_one_hands_everything_over_once_and_in_order() {
        const ITEMS: usize = 10_000;
        let queue = ExitQueue::new(1).expect("that much memory there is");
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
                queue.push_from(&mut backlog);
                if backlog.is_empty() {
                    break;
                }
                // As the ring thread does: never again before notifier was woken.
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
