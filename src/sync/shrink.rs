//! Gives back the memory that a storm took and quieter times do not need.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// So much room is kept anyway.
const KEPT: usize = 1024;

/// Whether a container is so much larger than what is in it.
pub(crate) fn is_sparse(len: usize, capacity: usize) -> bool {
    capacity / 4 > len.max(KEPT)
}

/// Containers that are asked every now and then. As less than a quarter of the room is used, growing
/// again is far away, and the cost is shared by all that was taken out.
pub(crate) trait ShrinkIfSparse {
    fn shrink_if_sparse(&mut self);
}

impl<T> ShrinkIfSparse for Vec<T> {
    fn shrink_if_sparse(&mut self) {
        if is_sparse(self.len(), self.capacity()) {
            self.shrink_to(2 * self.len().max(KEPT));
        }
    }
}

impl<T> ShrinkIfSparse for VecDeque<T> {
    fn shrink_if_sparse(&mut self) {
        if is_sparse(self.len(), self.capacity()) {
            self.shrink_to(2 * self.len().max(KEPT));
        }
    }
}

impl<K: Eq + Hash, V> ShrinkIfSparse for HashMap<K, V> {
    fn shrink_if_sparse(&mut self) {
        if is_sparse(self.len(), self.capacity()) {
            self.shrink_to(2 * self.len().max(KEPT));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nearly_empty_gives_its_memory_back_and_what_is_small_keeps_it() {
        let mut storm: VecDeque<u64> = (0..100_000).collect();
        storm.shrink_if_sparse();
        assert!(storm.capacity() >= 100_000);
        storm.drain(10..);
        storm.shrink_if_sparse();
        assert!(storm.capacity() < 10_000);
        assert_eq!(storm, VecDeque::from_iter(0..10));
        let mut small: Vec<u8> = Vec::with_capacity(KEPT);
        small.shrink_if_sparse();
        assert_eq!(small.capacity(), KEPT);
    }
}
