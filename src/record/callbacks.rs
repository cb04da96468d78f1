//! The callbacks of one record, in the order in which they were added.

use std::collections::VecDeque;

use crate::types::callback::{Callback, CallbackId};

/// A cancelled callback leaves a gap, so that cancelling is a binary search by id and moves no
/// other callback. There is no gap at either end.
#[derive(Default)]
pub(crate) struct Callbacks(VecDeque<(CallbackId, Option<Callback>)>);

impl Callbacks {
    /// Adds a callback. The ids of one record grow, because they are assigned under its lock.
    pub(crate) fn push(&mut self, callback: Callback) -> CallbackId {
        let Self(all) = self;
        if all.len() == all.capacity() {
            all.retain(|(_, callback)| callback.is_some());
            match all.len() {
                // Most watches get one callback, and the default first capacity is four.
                0 => all.reserve_exact(1),
                // Removing few gaps would leave the buffer full again soon.
                len if len > all.capacity() / 2 => all.reserve(len),
                _ => {}
            }
        }
        let id = CallbackId::next();
        all.push_back((id, Some(callback)));
        id
    }

    /// Removes the oldest callback.
    pub(crate) fn pop(&mut self) -> Option<(CallbackId, Callback)> {
        let (id, callback) = self.0.pop_front()?;
        self.trim_gaps();
        // It is not `None`: that would have been a gap at the end.
        Some((id, callback?))
    }

    /// Removes this callback, if it is there.
    pub(crate) fn remove(&mut self, id: CallbackId) -> Option<Callback> {
        let index = self.0.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        let callback = self.0[index].1.take();
        self.trim_gaps();
        callback
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// An upper bound of the number of callbacks.
    pub(crate) fn max_len(&self) -> usize {
        self.0.len()
    }

    fn trim_gaps(&mut self) {
        let Self(all) = self;
        while all.front().is_some_and(|(_, callback)| callback.is_none()) {
            all.pop_front();
        }
        while all.back().is_some_and(|(_, callback)| callback.is_none()) {
            all.pop_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn callback() -> Callback {
        Box::new(|_| ())
    }

    #[test]
    fn callbacks_stay_in_order_whichever_are_cancelled() {
        for cancelled in 0..1_u32 << 6 {
            let mut callbacks = Callbacks::default();
            let ids = [(); 6].map(|()| callbacks.push(callback()));
            let is_cancelled = |index: usize| cancelled & 1 << index != 0;
            // From the middle outwards.
            for index in [3, 2, 4, 1, 5, 0] {
                if is_cancelled(index) {
                    assert!(callbacks.remove(ids[index]).is_some());
                    assert!(callbacks.remove(ids[index]).is_none());
                }
            }
            let mut left = Vec::new();
            while !callbacks.is_empty() {
                left.push(callbacks.pop().expect("it is not empty").0);
            }
            let expected: Vec<_> = (0..6)
                .filter(|index| !is_cancelled(*index))
                .map(|index| ids[index])
                .collect();
            assert_eq!(left, expected);
            assert!(callbacks.pop().is_none());
        }
    }

    #[test]
    fn gaps_are_reused_and_one_callback_takes_one_entry() {
        let mut callbacks = Callbacks::default();
        let mut last = callbacks.push(callback());
        assert_eq!(callbacks.0.capacity(), 1);
        let oldest = last;
        last = callbacks.push(callback());
        // The oldest and the newest stay, so no gap is at an end.
        for _ in 0..10_000 {
            let next = callbacks.push(callback());
            assert!(callbacks.remove(last).is_some());
            last = next;
        }
        assert!(callbacks.0.capacity() < 16, "{}", callbacks.0.capacity());
        assert_eq!(callbacks.pop().map(|(id, _)| id), Some(oldest));
    }

    #[test]
    fn a_gap_is_no_larger_than_a_callback() {
        assert_eq!(size_of::<Callback>(), size_of::<Option<Callback>>());
    }
}
