//! Records for the job log that wait until the output of their jobs has been written. What is in the
//! job log does not run again, so its output must not be lost.

use std::collections::VecDeque;

/// A number of bytes of standard output and of standard error, from the start of the run.
pub(super) type Position = [u64; 2];

#[derive(Default)]
pub(super) struct LogRecords {
    waiting: VecDeque<Waiting>,
    /// The bytes of these.
    pub(super) length: usize,
    /// How many were dropped, because output before them was lost.
    pub(super) dropped: u64,
}

struct Waiting {
    /// What has to be written before.
    after: Position,
    record: Vec<u8>,
}

impl LogRecords {
    /// Adds a record, which ends with a line end, or a part of one that follows the part before.
    pub(super) fn add(&mut self, after: Position, record: &[u8]) {
        self.length += record.len();
        match self.waiting.back_mut() {
            Some(last) if !last.record.ends_with(b"\n") => {
                last.after = after;
                last.record.extend_from_slice(record);
            }
            _ => self.waiting.push_back(Waiting {
                after,
                record: record.to_vec(),
            }),
        }
    }

    /// Removes and returns the records whose output has been written.
    pub(super) fn take(&mut self, written: Position) -> Vec<u8> {
        let mut records = Vec::new();
        while let Some(waiting) = self.waiting.front() {
            if !is_reached(waiting.after, written) || !waiting.record.ends_with(b"\n") {
                break;
            }
            records.extend_from_slice(&waiting.record);
            self.waiting.pop_front();
        }
        self.length -= records.len();
        records
    }

    /// Drops the records whose output will not be written: what follows this position is lost.
    pub(super) fn drop_after(&mut self, written: Position) {
        let before = self.waiting.len();
        self.waiting
            .retain(|waiting| is_reached(waiting.after, written));
        self.dropped += (before - self.waiting.len()) as u64;
        self.length = self
            .waiting
            .iter()
            .map(|waiting| waiting.record.len())
            .sum();
    }
}

fn is_reached(position: Position, written: Position) -> bool {
    position[0] <= written[0] && position[1] <= written[1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_follow_their_output() {
        let mut records = LogRecords::default();
        records.add([5, 0], b"a\n");
        records.add([5, 3], b"b");
        records.add([7, 3], b"c\n");
        records.add([9, 3], b"d\n");
        assert_eq!(records.take([4, 9]), b"");
        assert_eq!(records.take([6, 9]), b"a\n");
        assert_eq!(records.take([7, 2]), b"");
        records.drop_after([8, 3]);
        assert_eq!((records.dropped, records.length), (1, 3));
        assert_eq!(records.take([8, 3]), b"bc\n");
        assert_eq!(records.length, 0);
    }
}
