//! The slots of running jobs.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Numbers from 1, of which each running job has one of its own. The lowest free number is given
/// out, so with `n` jobs at a time the numbers are 1 to `n`.
#[derive(Debug, Default)]
pub(super) struct Slots {
    /// Free numbers up to `highest`.
    free: BinaryHeap<Reverse<u32>>,
    /// The highest number that was given out.
    highest: u32,
}

impl Slots {
    /// Takes the lowest free number.
    pub(super) fn take(&mut self) -> u32 {
        match self.free.pop() {
            Some(Reverse(slot)) => slot,
            None => {
                // There are as many numbers as jobs that run at a time, which is far below the
                // maximum.
                self.highest += 1;
                self.highest
            }
        }
    }

    /// Frees a number.
    pub(super) fn free(&mut self, slot: u32) {
        self.free.push(Reverse(slot));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_slot_is_taken() {
        let mut slots = Slots::default();
        assert_eq!([(); 4].map(|()| slots.take()), [1, 2, 3, 4]);
        slots.free(3);
        slots.free(1);
        slots.free(4);
        assert_eq!([(); 4].map(|()| slots.take()), [1, 3, 4, 5]);
    }
}
