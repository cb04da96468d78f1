//! What the run has done with jobs.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Thread;
use crate::diagnostics::say;
use crate::queue::worker::lease::FromRun;
use crate::queue::worker::publication::{Stored, publish};

/// How long results have to be stored though the server denies a permission. It may be another one.
const DENIED_PATIENCE: Duration = Duration::from_secs(2);

impl Thread {
    pub(super) async fn handle(&mut self, message: FromRun) {
        match message {
            FromRun::Finished {
                number,
                success,
                interrupted,
                message,
            } => {
                // The job of a cancelled run is not run again.
                if interrupted && !self.cancelled {
                    return self.returned(number, false).await;
                }
                self.finished(number, success, message);
            }
            FromRun::GivenBack { number, later } => self.returned(number, later).await,
            FromRun::Close(patience) => {
                self.closing = true;
                self.pulls.stop();
                let patience = patience.or(self.denied.then_some(DENIED_PATIENCE));
                self.close_until = patience.map(|patience| Instant::now() + patience);
                let left = self.publications.len();
                if left > 0 && !self.link.up {
                    say(&format!("{left} results wait for the server\n"));
                }
            }
        }
    }

    pub(super) fn finished(&mut self, number: u64, success: bool, message: Vec<u8>) {
        let Some(held) = self.held.get_mut(&number) else {
            return;
        };
        held.finished = true;
        self.unfinished -= 1;
        self.pace.ended(Instant::now());
        self.probing = false;
        self.done += 1;
        self.failed += u64::from(!success);
        let shared = Rc::clone(&self.parts.shared);
        let run = &shared.connection.run;
        let id = format!("{run}:{number}:end:{}.{}", self.parts.worker, held.delivery);
        let reply = held.reply.clone();
        let waiting = shared.buffer.borrow_mut().put(message);
        self.publications
            .push(Box::pin(publish(shared, number, id, waiting, reply)));
    }

    /// The run does not do a job.
    pub(super) async fn returned(&mut self, number: u64, later: bool) {
        let Some(held) = self.held.remove(&number) else {
            return;
        };
        self.unfinished -= 1;
        // Without a connection the lease ends by itself. A later message could take the job away
        // from the worker that has it by then.
        if self.link.up && !self.cancelled && !held.doubtful {
            self.give_back(number, held.reply, held.given_back, later)
                .await;
        }
    }

    pub(super) fn stored(&mut self, number: u64, stored: &Stored) {
        self.held.remove(&number);
        if matches!(stored, Stored::Deleted) {
            self.next_check = Instant::now();
        }
    }
}
