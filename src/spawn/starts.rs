//! The starts of owned children that are under way.

use std::collections::BTreeSet;

use std::sync::PoisonError;

use crate::sync::{Mutex, MutexGuard};

/// The starts that are under way: each from before its child exists until the registration of the
/// child is in the mailbox. Used only while orphans are reaped.
#[derive(Default)]
pub(crate) struct Starts(Mutex<State>);

#[derive(Default)]
struct State {
    next: u64,
    under_way: BTreeSet<u64>,
}

/// Separates the starts that had begun from later ones.
#[derive(Clone, Copy)]
pub(crate) struct Barrier(u64);

impl Starts {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a start, which is over when the result is dropped.
    pub(crate) fn begin(&self) -> Start<'_> {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        state.under_way.insert(number);
        Start {
            starts: self,
            number,
        }
    }

    pub(crate) fn none_is_under_way(&self) -> bool {
        self.lock().under_way.is_empty()
    }

    pub(crate) fn barrier(&self) -> Barrier {
        Barrier(self.lock().next)
    }

    /// Whether all starts are over that had begun before the barrier.
    pub(crate) fn are_over(&self, barrier: Barrier) -> bool {
        let state = self.lock();
        let first = state.under_way.first();
        first.is_none_or(|first| *first >= barrier.0)
    }
}

/// A start that is under way.
pub(crate) struct Start<'a> {
    starts: &'a Starts,
    number: u64,
}

impl Drop for Start<'_> {
    fn drop(&mut self) {
        self.starts.lock().under_way.remove(&self.number);
    }
}

#[cfg(all(test, not(exitring_loom)))]
mod tests {
    use super::*;

    #[test]
    fn only_starts_before_a_barrier_count() {
        let starts = Starts::default();
        let first = starts.begin();
        let second = starts.begin();
        let barrier = starts.barrier();
        let later = starts.begin();
        assert!(!starts.are_over(barrier));
        drop(second);
        assert!(!starts.are_over(barrier));
        drop(first);
        assert!(starts.are_over(barrier));
        assert!(!starts.are_over(starts.barrier()));
        drop(later);
        assert!(starts.are_over(starts.barrier()));
    }
}
