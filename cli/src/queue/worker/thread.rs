//! The thread of the queue: it takes jobs for the admission, keeps their leases alive, and stores
//! their results.
//!
//! A current-thread runtime executes all of it, so the state has one owner and no lock.

use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::{Message, Subject, jetstream};
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::{MissedTickBehavior, interval};

use super::lease::{FromRun, Lease};
use super::pace::Pace;
use super::publication::{Shared, Stored, acknowledge, publish};
use super::pulls::{Pulled, Pulls};
use super::redelivery::{History, history, lost};
use crate::code;
use crate::diagnostics::say;
use crate::failure::Failure;
use crate::queue::connection::Link;
use crate::queue::error::QueueError;
use crate::queue::model::beat::Beat;
use crate::queue::model::job_message::JobMessage;
use crate::queue::model::record_message::{encode, origin};
use crate::queue::model::run_spec::RunSpec;
use crate::run::job::{Job, StartTime};
use crate::run::report::record::Record;
use crate::run::schedule::admission::Admission;
use crate::run::schedule::event_queue::{Event, EventQueue};

/// How often messages of one kind are taken between other work.
const AT_ONCE: usize = 256;
/// The most results that wait while jobs are taken.
const WAITING_MAX: usize = 2048;
/// How often the state is looked at.
const TICK: Duration = Duration::from_millis(100);
/// The longest time between two looks whether the run is complete.
const CHECK_MAX: Duration = Duration::from_secs(2);
/// The longest time between signs of life of the worker.
const BEAT_MAX: Duration = Duration::from_secs(10);
/// How long a job that this machine cannot start waits for another one.
const LATER: Duration = Duration::from_secs(5);

/// What the thread needs.
pub(super) struct Parts {
    pub(super) shared: Rc<Shared>,
    pub(super) spec: RunSpec,
    pub(super) worker: String,
    pub(super) host: String,
    pub(super) admission: Arc<Admission>,
    pub(super) event_queue: Arc<EventQueue>,
    pub(super) sender: UnboundedSender<FromRun>,
    pub(super) from_run: UnboundedReceiver<FromRun>,
    /// Closed at the end of the thread.
    pub(super) _ended: UnixStream,
}

/// A job whose lease this worker has.
struct Held {
    reply: Subject,
    delivery: u64,
    given_back: u64,
    /// It has a result, which is being stored.
    finished: bool,
}

/// What became of a job that was delivered before.
struct Looked {
    message: JobMessage,
    reply: Subject,
    delivery: u64,
    history: Result<History, QueueError>,
}

pub(super) struct Thread {
    parts: Parts,
    held: HashMap<u64, Held>,
    /// The leases of jobs that have no result yet.
    unfinished: usize,
    pulls: Pulls,
    pulled: UnboundedReceiver<Pulled>,
    pace: Pace,
    publications: FuturesUnordered<LocalBoxFuture<'static, (u64, Stored)>>,
    acknowledgements: FuturesUnordered<LocalBoxFuture<'static, ()>>,
    lookups: FuturesUnordered<LocalBoxFuture<'static, Looked>>,
    /// A look whether the run is complete or cancelled.
    check: FuturesUnordered<LocalBoxFuture<'static, Result<Progress, QueueError>>>,
    next_check: Instant,
    last_check: Instant,
    check_now: bool,
    check_pause: Duration,
    link: Link,
    /// When the leases were renewed last, and when the connection was lost.
    renewed: Instant,
    lost_since: Option<Instant>,
    refusal: Option<String>,
    trouble: Option<String>,
    done: u64,
    failed: u64,
    input_ended: bool,
    cancelled: bool,
    deleted: bool,
    /// No more jobs run.
    closing: bool,
    close_until: Option<Instant>,
}

/// How far the run is.
struct Progress {
    with_result: u64,
    cancelled: bool,
}

impl Thread {
    pub(super) fn new(parts: Parts) -> Self {
        let shared = Rc::clone(&parts.shared);
        let (pulls, pulled) = Pulls::new(shared.connection.client.clone(), &shared.names);
        let now = Instant::now();
        Self {
            held: HashMap::new(),
            unfinished: 0,
            pulls,
            pulled,
            pace: Pace::new(now),
            publications: FuturesUnordered::new(),
            acknowledgements: FuturesUnordered::new(),
            lookups: FuturesUnordered::new(),
            check: FuturesUnordered::new(),
            next_check: now,
            last_check: now,
            check_now: false,
            check_pause: TICK,
            link: *shared.connection.link.borrow(),
            renewed: now,
            lost_since: None,
            refusal: None,
            trouble: None,
            done: 0,
            failed: 0,
            input_ended: false,
            cancelled: false,
            deleted: false,
            closing: false,
            close_until: None,
            parts,
        }
    }

    pub(super) async fn run(mut self) {
        let lease = self.parts.spec.lease();
        let ticker = |period| {
            let mut ticker = interval(period);
            ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticker
        };
        let (mut tick, mut renewal) = (ticker(TICK), ticker(lease / 3));
        let mut beat = ticker(self.beat_period());
        let mut link = self.parts.shared.connection.link.clone();
        let client = self.parts.shared.connection.client.clone();
        let mut cancellations = client
            .subscribe(self.parts.shared.names.cancel_subject())
            .await
            .ok();
        let mut pulled = Vec::with_capacity(AT_ONCE);
        let mut from_run = Vec::with_capacity(AT_ONCE);
        while !self.is_over() {
            self.refill();
            tokio::select! {
                _ = self.parts.from_run.recv_many(&mut from_run, AT_ONCE) => {
                    for message in from_run.drain(..) {
                        self.handle(message).await;
                    }
                }
                _ = self.pulled.recv_many(&mut pulled, AT_ONCE) => self.take(&mut pulled).await,
                Some((number, stored)) = self.publications.next() => {
                    self.stored(number, &stored);
                }
                Some(()) = self.acknowledgements.next() => {}
                Some(looked) = self.lookups.next() => self.looked(looked).await,
                Some(progress) = self.check.next() => self.checked(progress),
                Ok(()) = link.changed() => {
                    let now = *link.borrow_and_update();
                    self.link_changed(now).await;
                }
                Some(_) = next(&mut cancellations) => self.cancel(),
                _ = renewal.tick() => self.renew().await,
                _ = beat.tick() => self.beat(false).await,
                _ = tick.tick() => self.look(),
            }
        }
        self.pulls.abort();
        if self.close_until.is_some() && !self.publications.is_empty() {
            let left = self.publications.len();
            say(&format!(
                "{left} results could not be stored: these jobs run again on another worker\n"
            ));
        }
        if self.link.up {
            self.beat(true).await;
            self.parts.shared.connection.flush().await;
        }
    }

    fn is_over(&self) -> bool {
        let late = self
            .close_until
            .is_some_and(|until| until <= Instant::now());
        let stored = self.publications.is_empty() && self.acknowledgements.is_empty();
        let waits = self.unfinished > 0 || self.pulls.is_running() || !self.lookups.is_empty();
        self.closing && (late || self.deleted || stored && !waits)
    }

    fn takes_jobs(&self) -> bool {
        let over = self.closing || self.input_ended || self.cancelled || self.deleted;
        self.link.up && !over && !self.parts.admission.is_closed()
    }

    /// Asks for as many jobs as there is room for.
    fn refill(&mut self) {
        if self.parts.admission.is_closed() {
            // The run ends: what comes from now on would only be given back.
            return self.pulls.stop();
        }
        let waiting = self.publications.len();
        if !self.takes_jobs() || waiting >= WAITING_MAX || !self.pulls.may_request() {
            return;
        }
        let capacity = self.parts.admission.limit();
        let target = capacity + self.pace.ahead(Instant::now());
        let have = self.unfinished + self.lookups.len() + self.pulls.requested();
        let wanted = target.saturating_sub(have);
        // A free place is filled at once. What is taken ahead of time comes in batches.
        if wanted > 0 && (have < capacity || wanted * 4 >= target) {
            self.pulls.request(wanted);
        }
    }

    // ---- jobs

    async fn take(&mut self, pulled: &mut Vec<Pulled>) {
        let mut jobs = Vec::with_capacity(pulled.len());
        for pulled in pulled.drain(..) {
            match pulled {
                Pulled::Job(message, generation) => {
                    self.pulls.job_came(generation);
                    jobs.extend(self.delivered(message).await);
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

    fn request_failed(&mut self, error: String) {
        // The run may have been deleted.
        self.next_check = Instant::now();
        if self.trouble.as_ref() != Some(&error) {
            self.notice(format!("the server gives no jobs: {error}\n"));
            self.trouble = Some(error);
        }
    }

    /// A job that can start.
    async fn delivered(&mut self, message: Message) -> Option<Job> {
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
        if delivery > 1 {
            let shared = Rc::clone(&self.parts.shared);
            self.lookups.push(Box::pin(async move {
                let history = history(&shared.connection, &shared.names, number).await;
                Looked {
                    message: parsed,
                    reply,
                    delivery,
                    history,
                }
            }));
            return None;
        }
        self.hold(parsed, reply, delivery, 0)
    }

    async fn looked(&mut self, looked: Looked) {
        let Looked {
            message,
            reply,
            delivery,
            history,
        } = looked;
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
    fn hold(
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
        };
        self.held.insert(number, held);
        self.unfinished += 1;
        Some(job)
    }

    fn start(&self, jobs: Vec<Job>) {
        if !jobs.is_empty() {
            self.parts.admission.add(jobs);
        }
    }

    /// Records that a job is not run any more, because its workers were lost each time.
    fn give_up(&mut self, job: &Job) {
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
    async fn give_back(&self, number: u64, reply: Subject, given_back: u64, later: bool) {
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

    // ---- results

    async fn handle(&mut self, message: FromRun) {
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
                self.close_until = patience.map(|patience| Instant::now() + patience);
                if self.publications.len() > 100 && !self.link.up {
                    let left = self.publications.len();
                    say(&format!("{left} results wait for the server\n"));
                }
            }
        }
    }

    fn finished(&mut self, number: u64, success: bool, message: Vec<u8>) {
        let Some(held) = self.held.get_mut(&number) else {
            return;
        };
        held.finished = true;
        self.unfinished -= 1;
        self.pace.ended(Instant::now());
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
    async fn returned(&mut self, number: u64, later: bool) {
        let Some(held) = self.held.remove(&number) else {
            return;
        };
        self.unfinished -= 1;
        // Without a connection the lease ends by itself. A later message could take the job away
        // from the worker that has it by then.
        if self.link.up && !self.cancelled {
            self.give_back(number, held.reply, held.given_back, later)
                .await;
        }
    }

    fn stored(&mut self, number: u64, stored: &Stored) {
        self.held.remove(&number);
        if matches!(stored, Stored::Deleted) {
            self.next_check = Instant::now();
        }
    }

    // ---- the state of the run

    /// Looks after what no message reports.
    fn look(&mut self) {
        let refusal = self.parts.shared.refusal.borrow().clone();
        if refusal != self.refusal {
            match &refusal {
                Some(reason) => self.notice(format!(
                    "the server does not store results: {reason}; they wait, and are published again\n"
                )),
                None => self.notice("the server stores results again\n".into()),
            }
            self.refusal = refusal;
        }
        let now = Instant::now();
        // Jobs that wait here start no more when their leases may be over: the server has given
        // them to another worker.
        if self.lost_since.is_some() && now > self.renewed + self.parts.spec.lease() * 2 / 3 {
            self.parts.admission.drop_unstarted();
        }
        // With jobs of its own here the run is not complete, but it may be cancelled or deleted.
        let due = match self.unfinished {
            0 => self.next_check,
            _ if self.check_now => now,
            _ => self.last_check + BEAT_MAX,
        };
        if self.takes_jobs() && self.check.is_empty() && now >= due {
            self.last_check = now;
            self.check_now = false;
            let shared = Rc::clone(&self.parts.shared);
            self.check.push(Box::pin(async move {
                let connection = &shared.connection;
                let records = connection.stream_state(&shared.names.records).await?;
                Ok(Progress {
                    with_result: records.subjects,
                    cancelled: connection.is_cancelled().await?,
                })
            }));
        }
    }

    fn checked(&mut self, progress: Result<Progress, QueueError>) {
        self.next_check = Instant::now() + self.check_pause;
        self.check_pause = (self.check_pause * 3 / 2).min(CHECK_MAX);
        match progress {
            Ok(progress) if progress.cancelled => self.cancel(),
            Ok(progress) if progress.with_result >= self.parts.spec.jobs => self.end_input(),
            Ok(_) => {}
            Err(error @ QueueError::NoRun { .. }) => {
                self.deleted = true;
                self.end_with(Failure::from(error));
            }
            // It is asked again.
            Err(error) => {
                let error = error.to_string();
                if self.trouble.as_ref() != Some(&error) {
                    self.notice(format!("{error}\n"));
                    self.trouble = Some(error);
                }
            }
        }
    }

    fn cancel(&mut self) {
        if self.cancelled {
            return;
        }
        self.cancelled = true;
        let run = &self.parts.shared.connection.run;
        let cause = format!("the run {run} was cancelled");
        self.end_with(Failure::new(code::SOME_FAILED, cause));
    }

    /// Ends running jobs, and then the run on this worker.
    fn end_with(&mut self, failure: Failure) {
        self.parts.event_queue.push(Event::EndNow(failure));
        self.end_input();
    }

    fn end_input(&mut self) {
        if std::mem::replace(&mut self.input_ended, true) {
            return;
        }
        self.pulls.stop();
        self.parts.admission.end_input();
        self.parts.event_queue.set_readable();
    }

    async fn link_changed(&mut self, link: Link) {
        let before = std::mem::replace(&mut self.link, link);
        let server = self.parts.shared.connection.server.clone();
        if before.up && (!link.up || before.connections != link.connections) {
            // Requests for jobs ended with the connection.
            self.pulls.abort();
        }
        match (before.up, link.up) {
            (true, false) => {
                self.lost_since = Some(Instant::now());
                self.parts.admission.set_paused(true);
                self.notice(format!(
                    "the connection with {server} is lost: running jobs go on, no more start\n"
                ));
            }
            (false, true) => {
                self.pulls.abort();
                self.lost_since = None;
                self.renew().await;
                self.parts.admission.set_paused(false);
                self.notice(format!("connected with {server} again\n"));
                // The message of a cancellation may have been lost.
                self.check_now = true;
                self.next_check = Instant::now();
            }
            _ => {}
        }
    }

    /// Renews all leases.
    async fn renew(&mut self) {
        if !self.link.up {
            return;
        }
        let client = &self.parts.shared.connection.client;
        for held in self.held.values() {
            let _ = client.publish(held.reply.clone(), "+WPI".into()).await;
        }
        self.renewed = Instant::now();
    }

    fn beat_period(&self) -> Duration {
        (self.parts.spec.lease() / 3).clamp(Duration::from_secs(1), BEAT_MAX)
    }

    async fn beat(&mut self, ended: bool) {
        if !self.link.up || self.deleted {
            return;
        }
        let beat = Beat {
            worker: self.parts.worker.clone(),
            host: self.parts.host.clone(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").into(),
            capacity: self.parts.admission.limit(),
            jobs: self.unfinished,
            waiting: self.publications.len(),
            done: self.done,
            failed: self.failed,
            every_seconds: self.beat_period().as_secs_f64(),
            ended,
        };
        let subject = self.parts.shared.names.worker_subject(&self.parts.worker);
        let json = serde_json::to_vec(&beat).unwrap_or_default();
        let client = &self.parts.shared.connection.client;
        let _ = client.publish(subject, json.into()).await;
    }

    fn notice(&self, text: String) {
        match self.closing {
            // The supervisor has ended.
            true => say(&text),
            false => self.parts.event_queue.push(Event::Notice(text)),
        }
    }
}

/// The next message of a subscription, if there is one.
async fn next(subscription: &mut Option<async_nats::Subscriber>) -> Option<Message> {
    subscription.as_mut()?.next().await
}
