//! Jobs on their way to the run.

use std::rc::Rc;
use std::time::Instant;

use async_nats::jetstream;

use super::{Held, REFUSED_PAUSE, TICK, Thread};
use crate::queue::clock::since_boot;
use crate::queue::error::QueueError;
use crate::queue::model::job_message::JobMessage;
use crate::queue::worker::lease::Lease;
use crate::queue::worker::publication::acknowledge;
use crate::queue::worker::pulls::{Delivery, Pulled};
use crate::queue::worker::redelivery::{History, look_up, lost};
use crate::run::job::Job;
use crate::run::schedule::event_queue::Event;

/// What became of a job that was delivered before.
pub(super) struct Looked {
    number: u64,
    /// `None`: the message is invalid.
    job: Option<Job>,
    /// The restarts of the server before.
    restarts: u64,
    /// `None`: unknown.
    history: Option<History>,
}

impl Thread {
    pub(super) fn take(&mut self, pulled: &mut Vec<Pulled>) {
        let (now, mut jobs) = (since_boot(), Vec::with_capacity(pulled.len()));
        for pulled in pulled.drain(..) {
            match pulled {
                Pulled::Job(delivery) => {
                    self.pulls.job_came(delivery.generation);
                    // The server may have given it to another worker: it has restarted since, or
                    // the message was held up for much of its lease. Giving it back could take it
                    // away from that worker, so its lease ends by itself.
                    let held_up = delivery.requested + self.parts.spec.lease() / 2 < now;
                    if delivery.generation >= self.void_before && !held_up {
                        jobs.extend(self.delivered(delivery));
                    }
                }
                Pulled::Ended(ended, generation) => {
                    let (error, reconnect) = self.pulls.ended(ended, generation);
                    if let (Some(error), true) = (error, self.takes_jobs()) {
                        self.request_failed(error);
                    }
                    if reconnect {
                        let client = self.parts.shared.connection.client.clone();
                        self.send(async move {
                            let _ = client.force_reconnect().await;
                        });
                    }
                }
            }
        }
        self.start(jobs);
    }

    pub(super) fn request_failed(&mut self, error: String) {
        // The run may have been deleted, or its consumer, which may have been recreated.
        self.check_now = true;
        self.next_request = Instant::now() + REFUSED_PAUSE;
        if self.trouble.as_ref() != Some(&error) {
            self.notice(format!("the server gives no jobs: {error}\n"));
            self.trouble = Some(error);
        }
    }

    /// A job that can start. Its lease is held from now on, also while it is looked up.
    pub(super) fn delivered(&mut self, delivery: Delivery) -> Option<Job> {
        let (message, taken) = (delivery.message, delivery.requested);
        let context = self.parts.shared.connection.context.clone();
        let message = jetstream::Message { message, context };
        let (number, delivery) = match message.info() {
            Ok(info) => {
                self.all_taken = info.pending == 0;
                (
                    info.stream_sequence,
                    u64::try_from(info.delivered).unwrap_or(1),
                )
            }
            Err(_) => return None,
        };
        let reply = message.message.reply?;
        let recreations = self.parts.recreations;
        if let Some(held) = self.held.get_mut(&number) {
            // This worker was too slow to renew its lease, and got the job again. It has it already.
            (held.reply, held.taken) = (reply, taken);
            held.recreations = recreations;
            held.again = held.again.saturating_add(1);
            held.doubtful = false;
            return None;
        }
        self.check_pause = TICK;
        self.next_check = Instant::now() + TICK;
        let held = Held {
            reply,
            delivery,
            recreations,
            given_back: 0,
            again: 0,
            taken,
            doubtful: false,
        };
        self.held.insert(number, held);
        self.unfinished += 1;
        let parsed = serde_json::from_slice::<JobMessage>(&message.message.payload).ok();
        let job = parsed
            .filter(|job| job.job == number)
            .and_then(JobMessage::into_job);
        // Also if it is only given back: otherwise its count would begin again.
        if delivery > 1 || self.parts.looks_up_all {
            self.look_up(number, delivery, job);
            return None;
        }
        self.admit(number, job)
    }

    fn look_up(&self, number: u64, delivery: u64, job: Option<Job>) {
        let shared = Rc::clone(&self.parts.shared);
        let restarts = self.restarts;
        self.lookups.push(Box::pin(async move {
            let history = look_up(&shared, number, delivery).await;
            Looked {
                number,
                job,
                restarts,
                history,
            }
        }));
    }

    /// Drops a job whose lookup began before the server restarted, unless it was delivered again
    /// since: then it is looked up again.
    fn looked_before_restart(&mut self, number: u64, job: Option<Job>) {
        let Some(held) = self.held.get(&number) else {
            return;
        };
        match held.doubtful {
            true => self.returned(number, false),
            false => self.look_up(number, held.delivery, job),
        }
    }

    pub(super) fn looked(&mut self, looked: Looked) {
        let Looked {
            number,
            job,
            restarts,
            history,
        } = looked;
        if restarts != self.restarts {
            return self.looked_before_restart(number, job);
        }
        match history {
            Some(History::GivenBack(count)) => {
                if let Some(held) = self.held.get_mut(&number) {
                    held.given_back = count;
                }
            }
            Some(History::Done) => {
                let Some(held) = self.held.remove(&number) else {
                    return;
                };
                self.unfinished -= 1;
                let shared = Rc::clone(&self.parts.shared);
                self.acknowledgements.push(Box::pin(async move {
                    acknowledge(&shared, held.reply).await;
                }));
                return;
            }
            None => return self.return_unknown(number),
        }
        let max = u64::from(self.parts.spec.options.max_lost);
        let Some(job) = self.admit(number, job) else {
            return;
        };
        let lease = job.details.as_ref().and_then(|it| it.lease.as_ref());
        match lease.map(|lease| lease.lost).filter(|lost| *lost >= max) {
            // The run ends, and the lease is given back.
            Some(_) if !self.parts.admission.defer_new() => {}
            Some(lost) => self.parts.event_queue.push(Event::GivenUp {
                job: job.into(),
                why: format!(
                    "given up: its worker died or lost its lease {lost} times (--max-lost)"
                ),
            }),
            None => self.start(vec![job]),
        }
    }

    /// The job of a lease that is held, unless it has to be given back.
    fn admit(&mut self, number: u64, job: Option<Job>) -> Option<Job> {
        if !self.takes_jobs() {
            self.returned(number, false);
            return None;
        }
        let Some(mut job) = job else {
            self.returned(number, true);
            let error = QueueError::InvalidMessage {
                run: self.parts.shared.connection.run.clone(),
                reason: format!("job {number}"),
            };
            self.parts
                .event_queue
                .push(Event::CannotContinue(error.into()));
            return None;
        };
        let held = self.held.get(&number)?;
        let lost = lost(held.delivery, held.given_back);
        let sender = self.parts.sender.clone();
        let lease = Lease::new(number, held.delivery, lost, sender);
        job.details.get_or_insert_default().lease = Some(lease);
        Some(job)
    }

    pub(super) fn start(&self, jobs: Vec<Job>) {
        if !jobs.is_empty() {
            self.parts.admission.add(jobs);
        }
    }
}
