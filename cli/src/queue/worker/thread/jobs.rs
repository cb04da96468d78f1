//! Jobs on their way to the run.

use std::rc::Rc;
use std::time::Instant;

use async_nats::{Message, Subject, jetstream};

use super::{Held, LATER, Looked, REFUSED_PAUSE, TICK, Thread};
use crate::queue::error::QueueError;
use crate::queue::model::job_message::JobMessage;
use crate::queue::model::record_message::{encode, origin};
use crate::queue::worker::lease::Lease;
use crate::queue::worker::publication::acknowledge;
use crate::queue::worker::pulls::Pulled;
use crate::queue::worker::redelivery::{History, history, lost};
use crate::run::job::{Job, StartTime};
use crate::run::report::record::Record;
use crate::run::schedule::event_queue::Event;

impl Thread {
    pub(super) async fn take(&mut self, pulled: &mut Vec<Pulled>) {
        let mut jobs = Vec::with_capacity(pulled.len());
        for pulled in pulled.drain(..) {
            match pulled {
                Pulled::Job(message, generation) => {
                    self.pulls.job_came(generation);
                    let void = generation < self.void_before || !self.resumption.is_empty();
                    if !void {
                        jobs.extend(self.delivered(message).await);
                    }
                }
                Pulled::Ended(ended, generation) => {
                    let (error, reconnect) = self.pulls.ended(ended, generation);
                    if let (Some(error), true) = (error, self.takes_jobs()) {
                        self.request_failed(error);
                    }
                    if reconnect {
                        let _ = self.parts.shared.connection.client.force_reconnect().await;
                    }
                }
            }
        }
        self.start(jobs);
    }

    pub(super) fn request_failed(&mut self, error: String) {
        // The run may have been deleted.
        self.check_now = true;
        self.next_request = Instant::now() + REFUSED_PAUSE;
        if self.trouble.as_ref() != Some(&error) {
            self.notice(format!("the server gives no jobs: {error}\n"));
            self.trouble = Some(error);
        }
    }

    /// A job that can start.
    pub(super) async fn delivered(&mut self, message: Message) -> Option<Job> {
        let context = self.parts.shared.connection.context.clone();
        let message = jetstream::Message { message, context };
        let (number, delivery) = match message.info() {
            Ok(info) => (
                info.stream_sequence,
                u64::try_from(info.delivered).unwrap_or(1),
            ),
            Err(_) => return None,
        };
        let reply = message.message.reply?;
        if let Some(held) = self.held.get_mut(&number) {
            // This worker was too slow to renew its lease, and got the job again. It runs already.
            held.reply = reply;
            held.given_back += 1;
            held.doubtful = false;
            return None;
        }
        if !self.takes_jobs() {
            self.give_back(number, reply, 0, false).await;
            return None;
        }
        self.check_pause = TICK;
        self.next_check = Instant::now() + TICK;
        let parsed = serde_json::from_slice::<JobMessage>(&message.message.payload).ok();
        let Some(parsed) = parsed.filter(|job| job.job == number) else {
            let error = QueueError::InvalidMessage {
                run: self.parts.shared.connection.run.clone(),
                reason: format!("job {number}"),
            };
            self.give_back(number, reply, 0, true).await;
            self.parts
                .event_queue
                .push(Event::CannotContinue(error.into()));
            return None;
        };
        if delivery > 1 || self.parts.looks_up_all {
            let shared = Rc::clone(&self.parts.shared);
            let restarts = self.restarts;
            self.lookups.push(Box::pin(async move {
                let history = history(&shared.connection, &shared.names, number, delivery).await;
                Looked {
                    message: parsed,
                    reply,
                    delivery,
                    restarts,
                    history,
                }
            }));
            return None;
        }
        self.hold(parsed, reply, delivery, 0)
    }

    pub(super) async fn looked(&mut self, looked: Looked) {
        let Looked {
            message,
            reply,
            delivery,
            restarts,
            history,
        } = looked;
        if restarts != self.restarts {
            return;
        }
        let number = message.job;
        let given_back = match history {
            Ok(History::GivenBack(count)) => count,
            Ok(History::Done) => {
                let shared = Rc::clone(&self.parts.shared);
                self.acknowledgements
                    .push(Box::pin(async move { acknowledge(&shared, reply).await }));
                return;
            }
            // Unknown. The lease ends by itself.
            Err(_) => return,
        };
        if !self.takes_jobs() {
            return self.give_back(number, reply, given_back, false).await;
        }
        let max = u64::from(self.parts.spec.options.max_lost);
        let poison = lost(delivery, given_back) >= max;
        let Some(job) = self.hold(message, reply, delivery, given_back) else {
            return;
        };
        match poison {
            true => self.give_up(&job),
            false => self.start(vec![job]),
        }
    }

    /// Takes the lease of a job.
    pub(super) fn hold(
        &mut self,
        message: JobMessage,
        reply: Subject,
        delivery: u64,
        given_back: u64,
    ) -> Option<Job> {
        let number = message.job;
        if self.held.contains_key(&number) {
            return None;
        }
        let Some(mut job) = message.into_job() else {
            self.parts.event_queue.push(Event::CannotContinue(
                QueueError::InvalidMessage {
                    run: self.parts.shared.connection.run.clone(),
                    reason: format!("job {number}"),
                }
                .into(),
            ));
            return None;
        };
        let sender = self.parts.sender.clone();
        let lease = Lease::new(number, delivery, lost(delivery, given_back), sender);
        job.details.get_or_insert_default().lease = Some(lease);
        let held = Held {
            reply,
            delivery,
            given_back,
            finished: false,
            doubtful: false,
        };
        self.held.insert(number, held);
        self.unfinished += 1;
        Some(job)
    }

    pub(super) fn start(&self, jobs: Vec<Job>) {
        if !jobs.is_empty() {
            self.parts.admission.add(jobs);
        }
    }

    /// Records that a job is not run any more, because its workers were lost each time.
    pub(super) fn give_up(&mut self, job: &Job) {
        let Some(lease) = job
            .details
            .as_ref()
            .and_then(|details| details.lease.as_ref())
        else {
            return;
        };
        let (number, count) = (job.number, lease.lost);
        let why = format!("given up: its worker died or lost its lease {count} times (--max-lost)");
        self.notice(format!("job {number} is {why}\n"));
        let record = Record::of_given_up(job, StartTime::now(), why);
        let (worker, host) = (&self.parts.worker, &self.parts.host);
        let origin = origin(job, worker, host, lease.delivery, lease.lost);
        lease.settle(false, false, encode(&record, &origin, None, usize::MAX));
    }

    /// Gives a job back, and stores how often that has happened: the delivery does not count as one
    /// whose worker was lost.
    pub(super) async fn give_back(
        &self,
        number: u64,
        reply: Subject,
        given_back: u64,
        later: bool,
    ) {
        let client = &self.parts.shared.connection.client;
        let count = (given_back + 1).to_string();
        let subject = self.parts.shared.names.given_back_subject(number);
        let _ = client.publish(subject, count.into()).await;
        let nak = match later {
            true => format!("-NAK {{\"delay\": {}}}", LATER.as_nanos()),
            false => "-NAK".into(),
        };
        let _ = client.publish(reply, nak.into()).await;
    }
}
