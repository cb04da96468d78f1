//! The lease of a job: the right of this worker to run it.

use std::cell::Cell;

use tokio::sync::mpsc::UnboundedSender;

/// What the run tells the thread of the queue. The channel is unbounded, but each lease puts at most
/// one message into it, and the number of leases is bounded.
#[derive(Debug)]
pub(crate) enum FromRun {
    /// The job has ended.
    Finished {
        number: u64,
        /// The number of the attempt that counts, from 1.
        attempt: u32,
        end: JobEnd,
        /// The record, as it is published.
        message: Vec<u8>,
    },
    /// The job was not run, or its attempts were given up.
    GivenBack {
        number: u64,
        /// Not at once: this machine lacks a resource, and another one may not.
        later: bool,
    },
    /// No more jobs run. The results have this long to be stored; `None`: no limit.
    Close(Option<std::time::Duration>),
}

/// How a job has ended, for the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JobEnd {
    Succeeded,
    Failed,
    /// The run has ended the job: it is not done.
    Interrupted,
    /// It may still run. Nobody waits for it any more.
    LeftRunning,
}

/// The lease of a job. It goes with the job through the run. However the run loses the job, the
/// lease is dropped then, and another worker gets the job.
#[derive(Debug)]
pub(crate) struct Lease {
    number: u64,
    /// Which delivery of the job this is, from 1.
    pub(super) delivery: u64,
    /// How often the worker of this job was lost before.
    pub(super) lost: u64,
    sender: UnboundedSender<FromRun>,
    settled: Cell<bool>,
    later: Cell<bool>,
}

impl Lease {
    pub(super) fn new(
        number: u64,
        delivery: u64,
        lost: u64,
        sender: UnboundedSender<FromRun>,
    ) -> Self {
        Self {
            number,
            delivery,
            lost,
            sender,
            settled: Cell::new(false),
            later: Cell::new(false),
        }
    }

    /// Passes on the result of the job.
    pub(super) fn settle(&self, attempt: u32, end: JobEnd, message: Vec<u8>) {
        self.settled.set(true);
        // The thread of the queue has ended only if nobody waits for results any more.
        let _ = self.sender.send(FromRun::Finished {
            number: self.number,
            attempt,
            end,
            message,
        });
    }

    /// Another worker gets the job a little later.
    pub(crate) fn delay(&self) {
        self.later.set(true);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.settled.get() {
            let _ = self.sender.send(FromRun::GivenBack {
                number: self.number,
                later: self.later.get(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;

    #[test]
    fn a_lease_is_given_back_unless_the_job_has_a_result() {
        let (sender, mut receiver) = unbounded_channel();
        drop(Lease::new(1, 1, 0, sender.clone()));
        let lease = Lease::new(2, 1, 0, sender.clone());
        lease.settle(1, JobEnd::Succeeded, b"{}".to_vec());
        drop(lease);
        let lease = Lease::new(3, 1, 0, sender);
        lease.delay();
        drop(lease);
        let mut next = || receiver.blocking_recv();
        assert!(matches!(
            next(),
            Some(FromRun::GivenBack {
                number: 1,
                later: false
            })
        ));
        assert!(matches!(next(), Some(FromRun::Finished { number: 2, .. })));
        assert!(matches!(
            next(),
            Some(FromRun::GivenBack {
                number: 3,
                later: true
            })
        ));
        assert!(next().is_none());
    }
}
