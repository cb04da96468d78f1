//! What the run has done with jobs.

use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Held, Thread};
use crate::diagnostics::say;
use crate::queue::worker::give_back::{GiveBack, give_back};
use crate::queue::worker::lease::{FromRun, JobEnd};
use crate::queue::worker::publication::{JobResult, Stored, acknowledge, publish};

/// How long results have to be stored though the server denies a permission. It may be another one.
const DENIED_TIMEOUT: Duration = Duration::from_secs(2);

impl Thread {
    pub(super) fn handle(&mut self, message: FromRun) {
        match message {
            FromRun::Finished {
                number,
                attempt,
                end,
                message,
            } => match end {
                JobEnd::Interrupted if !self.cancelled => self.returned(number, false),
                // It should not run twice if that can be helped. The lease ends by itself.
                JobEnd::LeftRunning if !self.cancelled => {
                    if self.held.remove(&number).is_some() {
                        self.unfinished -= 1;
                    }
                }
                // The job of a cancelled run is not run again.
                end => self.finished((number, attempt), end == JobEnd::Succeeded, message),
            },
            FromRun::GivenBack { number, later } => self.returned(number, later),
            FromRun::Close(timeout) => {
                self.closing = true;
                self.parts.shared.closing.set(true);
                self.pulls.stop();
                let timeout = timeout.or(self.denied.then_some(DENIED_TIMEOUT));
                // A time that the clock cannot represent is never reached.
                self.close_until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
                let left = self.publications.len();
                if left > 0 && !self.link.up {
                    let (results, wait) = match left {
                        1 => ("result", "waits"),
                        _ => ("results", "wait"),
                    };
                    say(&format!("{left} {results} {wait} for the server\n"));
                }
            }
        }
    }

    fn finished(&mut self, (number, attempt): (u64, u32), success: bool, message: Vec<u8>) {
        let Some(held) = self.held.get(&number) else {
            return;
        };
        self.unfinished -= 1;
        self.pace.ended(Instant::now());
        self.probing = false;
        self.done += 1;
        self.failed += u64::from(!success);
        let shared = Rc::clone(&self.parts.shared);
        let execution = format!("{}.{}", self.parts.worker, held.delivery);
        let result = JobResult {
            number,
            id: format!("{}:{number}:end:{execution}", shared.id),
            log: format!("{}/{number}/{execution}.{attempt}", shared.id),
            waiting: shared.buffer.borrow_mut().put(message),
        };
        self.publications.push(Box::pin(publish(shared, result)));
        self.parts.not_stored.fetch_add(1, Ordering::AcqRel);
    }

    /// The run does not do a job.
    pub(super) fn returned(&mut self, number: u64, later: bool) {
        if let Some(held) = self.held.remove(&number) {
            let given_back = held.given_back.saturating_add(held.again);
            self.give_back(number, held, Some(given_back.saturating_add(1)), later);
        }
    }

    /// The same for a job of which it is unknown how often it was given back.
    pub(super) fn return_unknown(&mut self, number: u64) {
        if let Some(held) = self.held.remove(&number) {
            self.give_back(number, held, None, false);
        }
    }

    fn give_back(&mut self, number: u64, held: Held, count: Option<u64>, later: bool) {
        self.unfinished -= 1;
        // Without a connection the lease ends by itself. So it does if the server may have given the
        // job to another worker, which would lose it.
        let doubtful = held.doubtful || !self.resumption.is_empty();
        if !self.link.up || doubtful || self.cancelled || self.deleted {
            return;
        }
        let lease = self.parts.spec.lease();
        let job = GiveBack {
            number,
            lease_end: self.renewed.max(held.taken) + lease,
            reply: held.reply,
            count,
            later,
        };
        let shared = Rc::clone(&self.parts.shared);
        self.send(give_back(shared, job));
    }

    pub(super) fn stored(&mut self, number: u64, stored: &Stored) {
        self.parts.not_stored.fetch_sub(1, Ordering::AcqRel);
        if let Some(held) = self.held.remove(&number)
            && matches!(stored, Stored::Stored)
        {
            let shared = Rc::clone(&self.parts.shared);
            self.acknowledgements.push(Box::pin(async move {
                acknowledge(&shared, held.reply).await;
            }));
        }
        // Often the run is complete then.
        let last = self.all_taken && self.unfinished == 0 && self.publications.is_empty();
        if last || matches!(stored, Stored::Deleted) {
            self.next_check = Instant::now();
            self.look();
        }
    }
}
