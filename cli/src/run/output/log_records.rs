//! Records for the job log that wait until the output of their jobs has been written. What is in the
//! job log does not run again, so its output must not be lost.

use std::collections::{HashMap, VecDeque};

use roaring::RoaringTreemap;

/// A number of bytes of standard output and of standard error, from the start of the run.
pub(super) type Position = [u64; 2];

#[derive(Default)]
pub(super) struct LogRecords {
    /// Where the output of each job that has no record yet ends.
    ends: HashMap<u64, OutputEnd>,
    waiting: VecDeque<Waiting>,
    /// The bytes of these.
    pub(super) length: usize,
    /// The jobs whose records were dropped, because output of them was lost.
    dropped: RoaringTreemap,
}

#[derive(Clone, Copy, Default)]
struct OutputEnd {
    position: Position,
    /// A part was lost.
    is_lost: bool,
}

struct Waiting {
    job: u64,
    /// What has to be written before.
    after: Position,
    record: Vec<u8>,
}

impl LogRecords {
    /// The job starts, and will have a record.
    pub(super) fn begin(&mut self, job: u64) {
        self.ends.entry(job).or_default();
    }

    /// Output of the job ends here. Of a job that has its record, it is output of a process that the
    /// job has left in the background.
    pub(super) fn has_written(&mut self, job: u64, position: Position) {
        if let Some(end) = self.ends.get_mut(&job) {
            end.position = position;
        }
    }

    /// Adds the record of a job, to follow its output.
    pub(super) fn add(&mut self, job: u64, record: Vec<u8>) {
        let end = self.ends.remove(&job).unwrap_or_default();
        match end.is_lost {
            true => self.drop_record(job),
            false => self.wait(job, end.position, record),
        }
    }

    /// Adds the record of a job that runs again, which needs no output.
    pub(super) fn add_at_once(&mut self, job: u64, record: Vec<u8>) {
        self.ends.remove(&job);
        self.wait(job, [0; 2], record);
    }

    fn wait(&mut self, job: u64, after: Position, record: Vec<u8>) {
        self.length += record.len();
        self.waiting.push_back(Waiting { job, after, record });
    }

    /// The job has no record, because output of it was lost.
    pub(super) fn drop_record(&mut self, job: u64) {
        self.ends.remove(&job);
        self.dropped.insert(job);
    }

    /// How many jobs have no record.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.len()
    }

    /// Removes and returns the records whose output has been written.
    pub(super) fn take(&mut self, written: Position) -> Vec<u8> {
        let mut records = Vec::new();
        while let Some(waiting) = self.waiting.front()
            && is_reached(waiting.after, written)
        {
            records.extend_from_slice(&waiting.record);
            self.waiting.pop_front();
        }
        self.length -= records.len();
        records
    }

    /// All that follows this position is lost, as far as it is in a buffer now.
    pub(super) fn lose_after(&mut self, written: Position) {
        for end in self.ends.values_mut() {
            end.is_lost |= !is_reached(end.position, written);
        }
        let (kept, lost) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|waiting| is_reached(waiting.after, written));
        self.waiting = kept;
        for Waiting { job, record, .. } in lost {
            self.length -= record.len();
            self.dropped.insert(job);
        }
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
        for (job, position) in [(1, [5, 0]), (2, [5, 3]), (3, [9, 3]), (4, [0, 0])] {
            records.begin(job);
            records.has_written(job, position);
        }
        records.add(1, b"1\n".to_vec());
        records.add(2, b"2\n".to_vec());
        assert_eq!(records.take([4, 9]), b"");
        assert_eq!(records.take([6, 2]), b"1\n");
        // The output of jobs 2 and 3 is lost. Job 3 ends later.
        records.lose_after([6, 2]);
        records.add(3, b"3\n".to_vec());
        records.add(4, b"4\n".to_vec());
        assert_eq!(records.take([9, 3]), b"4\n");
        assert_eq!((records.dropped(), records.length), (2, 0));
        assert!(records.ends.is_empty());
    }

    #[test]
    fn the_record_of_a_job_that_runs_again_does_not_wait() {
        let mut records = LogRecords::default();
        records.begin(1);
        records.has_written(1, [5, 0]);
        records.add_at_once(1, b"1\n".to_vec());
        assert_eq!(records.take([0, 0]), b"1\n");
        // A process in the background writes.
        records.has_written(1, [7, 0]);
        assert!(records.ends.is_empty());
    }
}
