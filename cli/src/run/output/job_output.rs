//! The output of jobs on its way to the standard streams, at once or in the order of the list.

use std::io;

use super::keep_order::{Next, RECORD, StoredRecord};
use super::std_streams::StdStreams;

/// What [`StdStreams::forward_next`] did.
pub(crate) enum Forwarded {
    /// Output was forwarded, and there may be more.
    More,
    /// The output of this job is forwarded at once from now on.
    Live(u64),
    /// There is nothing to forward now.
    Nothing,
}

impl StdStreams {
    /// Writes output of a job. With `--keep-order` it may have to wait.
    pub(crate) fn write_job(&mut self, job: u64, stream: usize, write: impl FnOnce(&mut Vec<u8>)) {
        if let Some(order) = &mut self.order
            && !order.is_live(job)
        {
            return order.store(job, stream, write);
        }
        write(self.buffer_for(stream));
    }

    /// Gives the job log the record of a job: once all that the job wrote has been written, or at once
    /// if the job runs again anyway.
    pub(crate) fn log_job(&mut self, job: u64, record: &[u8], runs_again: bool) {
        if runs_again {
            return self.log_records.add([0; 2], record);
        }
        if let Some(order) = &mut self.order
            && !order.is_live(job)
        {
            match order.store_record(job, record) {
                StoredRecord::Waits => return,
                StoredRecord::IsLost => return self.log_records.dropped += 1,
                StoredRecord::HasNoOutput => return self.log_records.add([0; 2], record),
            }
        }
        self.log_records.add(self.position(), record);
    }

    /// Whether output of a job is forwarded at once.
    pub(crate) fn is_live(&mut self, job: u64) -> bool {
        self.order.as_mut().is_none_or(|order| order.is_live(job))
    }

    /// Whether the turn of a job is over, so that output of other jobs follows.
    pub(crate) fn is_past(&mut self, job: u64) -> bool {
        self.order.as_mut().is_some_and(|order| order.is_past(job))
    }

    /// Whether output is in the order of the list.
    pub(crate) fn keeps_order(&self) -> bool {
        self.order.is_some()
    }

    /// Records that a job has ended and was reported.
    pub(crate) fn end_job(&mut self, job: u64) {
        if let Some(order) = &mut self.order {
            order.end_job(job);
        }
    }

    /// Records that no more jobs will run.
    pub(crate) fn end_list(&mut self) {
        if let Some(order) = &mut self.order {
            order.end_list();
        }
    }

    /// Moves output whose turn has come to the buffers, a limited amount at a time.
    pub(crate) fn forward_next(&mut self) -> Forwarded {
        // The rest of a line comes before the output of the next job.
        let may_advance = !self.holds_messages();
        let Some(order) = &mut self.order else {
            return Forwarded::Nothing;
        };
        match order.next(may_advance) {
            Next::Output(held) => {
                for (stream, bytes) in held.parts() {
                    match stream {
                        RECORD => self.log_records.add(self.position(), bytes),
                        _ => self.buffer_for(stream).extend_from_slice(bytes),
                    }
                }
                Forwarded::More
            }
            Next::Live(job) => Forwarded::Live(job),
            Next::None => Forwarded::Nothing,
        }
    }

    /// Why output that waited had to be discarded, once.
    pub(crate) fn take_order_failure(&mut self) -> Option<io::Error> {
        self.order.as_mut()?.take_failure()
    }
}
