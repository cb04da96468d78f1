//! The callbacks of one record, in the order in which they were added.

use std::collections::VecDeque;

use crate::types::callback::{Callback, CallbackId};

/// Most watches have one callback, so one needs no allocation of its own. The identifier's niche
/// distinguishes the variants: the type is as large as one callback with its id.
enum List {
    One(CallbackId, Callback),
    /// `None`: no callback. A queue is never empty.
    Other(Option<Box<Queue>>),
}

/// A cancelled callback leaves a gap, so that cancelling is a binary search by id and moves no
/// other callback. There is no gap at either end.
type Queue = VecDeque<(CallbackId, Option<Callback>)>;

pub(crate) struct Callbacks(List);

impl Default for Callbacks {
    fn default() -> Self {
        Self(List::Other(None))
    }
}

impl Callbacks {
    /// Adds a callback. The ids of one record grow, because they are assigned under its lock.
    pub(crate) fn push(&mut self, callback: Callback) -> CallbackId {
        let id = CallbackId::next();
        self.0 = match std::mem::take(self).0 {
            List::Other(None) => List::One(id, callback),
            List::One(first_id, first) => {
                let all = [(first_id, Some(first)), (id, Some(callback))];
                List::Other(Some(Box::new(VecDeque::from(all))))
            }
            List::Other(Some(mut all)) => {
                make_room(&mut all);
                all.push_back((id, Some(callback)));
                List::Other(Some(all))
            }
        };
        id
    }

    /// Removes the oldest callback.
    pub(crate) fn pop(&mut self) -> Option<(CallbackId, Callback)> {
        match std::mem::take(self).0 {
            List::One(id, callback) => Some((id, callback)),
            List::Other(all) => {
                let mut all = all?;
                let first = all.pop_front();
                self.put_back(all);
                let (id, callback) = first?;
                // It is not `None`: that would have been a gap at the end.
                Some((id, callback?))
            }
        }
    }

    /// Removes this callback, if it is there.
    pub(crate) fn remove(&mut self, id: CallbackId) -> Option<Callback> {
        match std::mem::take(self).0 {
            List::One(first, callback) if first == id => Some(callback),
            List::Other(Some(mut all)) => {
                let index = all.binary_search_by_key(&id, |(id, _)| *id);
                let callback = index.ok().and_then(|index| all[index].1.take());
                self.put_back(all);
                callback
            }
            other => {
                self.0 = other;
                None
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self.0, List::Other(None))
    }

    /// An upper bound of the number of callbacks.
    pub(crate) fn max_len(&self) -> usize {
        match &self.0 {
            List::One(..) => 1,
            List::Other(all) => all.as_ref().map_or(0, |all| all.len()),
        }
    }

    /// Stores a queue from which a callback was removed, without gaps at the ends.
    fn put_back(&mut self, mut all: Box<Queue>) {
        while all.front().is_some_and(|(_, callback)| callback.is_none()) {
            all.pop_front();
        }
        while all.back().is_some_and(|(_, callback)| callback.is_none()) {
            all.pop_back();
        }
        self.0 = List::Other(Some(all).filter(|all| !all.is_empty()));
    }
}

/// Makes room for one more callback, if possible by removing gaps.
fn make_room(all: &mut Queue) {
    if all.len() == all.capacity() {
        all.retain(|(_, callback)| callback.is_some());
        // Removing few gaps would leave the buffer full again soon.
        if all.len() > all.capacity() / 2 {
            all.reserve(all.len());
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
    fn gaps_are_reused() {
        let mut callbacks = Callbacks::default();
        let mut last = callbacks.push(callback());
        let oldest = last;
        last = callbacks.push(callback());
        // The oldest and the newest stay, so no gap is at an end.
        for _ in 0..10_000 {
            let next = callbacks.push(callback());
            assert!(callbacks.remove(last).is_some());
            last = next;
        }
        let List::Other(Some(all)) = &callbacks.0 else {
            panic!("two callbacks are in a queue");
        };
        assert!(all.capacity() < 16, "{}", all.capacity());
        assert_eq!(callbacks.pop().map(|(id, _)| id), Some(oldest));
    }

    #[test]
    fn one_callback_takes_no_allocation_and_no_tag() {
        let mut callbacks = Callbacks::default();
        for _ in 0..3 {
            let id = callbacks.push(callback());
            assert!(matches!(callbacks.0, List::One(one, _) if one == id));
            assert_eq!(callbacks.max_len(), 1);
            assert!(callbacks.remove(CallbackId::next()).is_none());
            assert_eq!(callbacks.pop().map(|(id, _)| id), Some(id));
            assert!(callbacks.is_empty());
        }
        assert_eq!(size_of::<Callbacks>(), size_of::<(CallbackId, Callback)>());
    }

    #[test]
    fn a_gap_is_no_larger_than_a_callback() {
        assert_eq!(size_of::<Callback>(), size_of::<Option<Callback>>());
    }
}
