//! The output of jobs on its way to the standard streams, at once or in the order of the list.

use std::io;

use super::keep_order::{Next, RECORD};
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
        self.append_output(job, stream, write);
    }

    /// Prepares for the record of a job that starts.
    pub(crate) fn begin_record(&mut self, job: u64) {
        self.log_records.begin(job);
    }

    /// Gives the job log the record of a job: once all that the job wrote has been written, or at
    /// once if the job runs again anyway.
    pub(crate) fn log_job(&mut self, job: u64, record: Vec<u8>, runs_again: bool) {
        if runs_again {
            return self.log_records.add_at_once(job, record);
        }
        match &mut self.order {
            Some(order) if order.is_lost(job) => self.log_records.drop_record(job),
            Some(order) if order.has_waiting(job) => order.store_record(job, &record),
            _ => self.log_records.add(job, record),
        }
    }

    /// Drops the records of jobs whose output was not forwarded, at the end of the run.
    pub(crate) fn drop_waiting_records(&mut self) {
        if let Some(order) = &self.order {
            for job in order.recorded() {
                self.log_records.drop_record(job);
            }
        }
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
            Next::Output(job, held) => {
                for (stream, bytes) in held.parts() {
                    match stream {
                        RECORD => self.forward_record(job, bytes),
                        _ => self.append_output(job, stream, |to| to.extend_from_slice(bytes)),
                    }
                }
                Forwarded::More
            }
            Next::Live(job) => Forwarded::Live(job),
            Next::None => Forwarded::Nothing,
        }
    }

    /// Gives the job log a record, or a part of one, which is the last that waited of its job.
    fn forward_record(&mut self, job: u64, part: &[u8]) {
        self.partial_record.extend_from_slice(part);
        if part.ends_with(b"\n") {
            let record = std::mem::take(&mut self.partial_record);
            let is_lost = self.order.as_mut().is_some_and(|order| {
                order.forward_record(job);
                order.is_lost(job)
            });
            match is_lost {
                true => self.log_records.drop_record(job),
                false => self.log_records.add(job, record),
            }
        }
    }

    /// Why output that waited had to be discarded, once.
    pub(crate) fn take_order_failure(&mut self) -> Option<io::Error> {
        self.order.as_mut()?.take_failure()
    }
}
