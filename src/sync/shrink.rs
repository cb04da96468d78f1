//! Frees memory that a burst of exits needed and that is unused since.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// A container keeps capacity for this many elements in any case.
const MIN_CAPACITY: usize = 1024;

/// Whether less than a quarter of a container's capacity is in use.
pub(crate) fn is_sparse(len: usize, capacity: usize) -> bool {
    capacity / 4 > len.max(MIN_CAPACITY)
}

/// Containers that are shrunk from time to time.
///
/// A container shrinks when less than a quarter of its capacity is in use, to twice its length. So
/// it does not have to grow again soon, and the cost is amortised over the elements that were
/// removed.
pub(crate) trait ShrinkIfSparse {
    fn shrink_if_sparse(&mut self);
}

impl<T> ShrinkIfSparse for Vec<T> {
    fn shrink_if_sparse(&mut self) {
        if is_sparse(self.len(), self.capacity()) {
            self.shrink_to(2 * self.len().max(MIN_CAPACITY));
        }
    }
}

impl<T> ShrinkIfSparse for VecDeque<T> {
    fn shrink_if_sparse(&mut self) {
        if is_sparse(self.len(), self.capacity()) {
            self.shrink_to(2 * self.len().max(MIN_CAPACITY));
        }
    }
}

impl<K: Eq + Hash, V> ShrinkIfSparse for HashMap<K, V> {
    fn shrink_if_sparse(&mut self) {
        if is_sparse(self.len(), self.capacity()) {
            self.shrink_to(2 * self.len().max(MIN_CAPACITY));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparse_container_shrinks_and_a_small_one_keeps_its_capacity() {
        let mut burst: VecDeque<u64> = (0..100_000).collect();
        burst.shrink_if_sparse();
        assert!(burst.capacity() >= 100_000);
        burst.drain(10..);
        burst.shrink_if_sparse();
        assert!(burst.capacity() < 10_000);
        assert_eq!(burst, VecDeque::from_iter(0..10));
        let mut small: Vec<u8> = Vec::with_capacity(MIN_CAPACITY);
        small.shrink_if_sparse();
        assert_eq!(small.capacity(), MIN_CAPACITY);
    }
}
