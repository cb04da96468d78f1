//! The free slots of the ring's registered-file table.

/// A released slot becomes free only after the kernel has carried out the close that empties it. A
/// registration takes effect before requests that are still in the submission queue, so a slot
/// reused earlier would be emptied while it holds its next file.
pub(super) struct FileTable {
    free: Vec<u32>,
    closing: Vec<u32>,
}

impl FileTable {
    /// A table of `len` empty slots. Low slots are used first.
    pub(super) fn new(len: u32) -> Self {
        Self {
            free: (0..len).rev().collect(),
            closing: Vec::new(),
        }
    }

    pub(super) fn take(&mut self) -> Option<u32> {
        self.free.pop()
    }

    /// Returns a slot that was taken and not used.
    pub(super) fn put_back(&mut self, slot: u32) {
        self.free.push(slot);
    }

    /// Notes that a close of the slot is in the submission queue.
    pub(super) fn closing(&mut self, slot: u32) {
        self.closing.push(slot);
    }

    /// Notes that the kernel has consumed the whole submission queue.
    pub(super) fn submitted(&mut self) {
        self.free.append(&mut self.closing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_free_again_only_after_its_close_was_submitted() {
        let mut table = FileTable::new(2);
        assert_eq!(
            (table.take(), table.take(), table.take()),
            (Some(0), Some(1), None)
        );
        table.closing(1);
        assert_eq!(table.take(), None);
        table.submitted();
        assert_eq!((table.take(), table.take()), (Some(1), None));
        table.put_back(0);
        assert_eq!(table.take(), Some(0));
    }
}
