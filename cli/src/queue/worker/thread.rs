//! The thread of the queue: it takes jobs for the admission, keeps their leases alive, and stores
//! their results.
//!
//! A current-thread runtime executes all of it, so the state has one owner and no lock.
//!
//! [`Thread`] and its loop are here. Its methods are in files of their own, each with one
//! `impl Thread`: `jobs`, `outcomes`, `run_state` and `resumption`.

mod held;
mod jobs;
mod outcomes;
mod resumption;
mod run_state;

use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use async_nats::Message;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{MissedTickBehavior, interval, timeout};

use self::held::Held;
use self::jobs::Looked;
use self::resumption::Resumed;
use self::run_state::Progress;
use super::link::not_stored;
use super::pace::Pace;
use super::parts::Parts;
use super::publication::Stored;
use super::pulls::{Pulled, Pulls};
use crate::diagnostics::say;
use crate::queue::clock::since_boot;
use crate::queue::connection::{ANSWER_TIMEOUT, Link};
use crate::queue::error::QueueError;
use crate::queue::model::text::one_line;
use crate::run::schedule::event_queue::Event;

/// How often messages of one kind are taken between other work.
const AT_ONCE: usize = 256;
/// The most results that wait while jobs are taken.
const WAITING_MAX: usize = 2048;
/// How often the state is looked at.
const TICK: Duration = Duration::from_millis(100);
/// How long a worker that has nothing to lose waits for a connection, at least. It is also ten leases.
const ABSENCE_MIN: Duration = Duration::from_secs(5 * 60);
/// The longest time between two looks whether the run is complete.
const CHECK_MAX: Duration = Duration::from_secs(2);
/// The longest time between heartbeats of the worker.
const HEARTBEAT_INTERVAL_MAX: Duration = Duration::from_secs(10);
/// How long a run may be without a consumer: it may just be recreated.
const NO_CONSUMER_MAX: Duration = Duration::from_secs(5);
/// The pause after the server has refused a request for jobs.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);
/// How long jobs wait here that a condition holds up.
const HOLD_MAX: Duration = Duration::from_secs(3);
/// How long no jobs are asked for after that.
const HOLD_PAUSE: Duration = Duration::from_secs(10);

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
    /// When the last job was delivered, the server had no more.
    all_taken: bool,
    check_pause: Duration,
    /// The last check has found that results are lost. A server that has just started may give counts
    /// of different times, so the next one has to find the same.
    lost_results: bool,
    link: Link,
    /// Messages without an answer that matters. The client keeps what it cannot send, up to a limit,
    /// and then waits: the loop must not wait with it. Each of them has a time limit.
    sends: FuturesUnordered<LocalBoxFuture<'static, ()>>,
    /// Renewals of all leases: when one was sent that the server has answered.
    renewals: FuturesUnordered<LocalBoxFuture<'static, Option<Duration>>>,
    /// The server, and how often it was found to have restarted.
    server_id: String,
    restarts: u64,
    /// Looks at the server after a new connection. No jobs are requested and started meanwhile.
    resumption: FuturesUnordered<LocalBoxFuture<'static, Resumed>>,
    /// Jobs of requests before this generation are not taken.
    void_before: u64,
    /// When the last renewal was sent that the server has answered.
    renewed: Duration,
    /// No more jobs start for now.
    paused: bool,
    /// The server has not answered a renewal for most of the lease.
    late: bool,
    /// There is a new connection, and it is not known yet whether the run is still there.
    unchecked: bool,
    /// Since when the run has no consumer.
    no_consumer_since: Option<Instant>,
    /// Since when there is no connection.
    lost_since: Option<Instant>,
    /// How long the last outage was.
    outage: Duration,
    /// Since when a condition (`--load` and so on) holds up starts.
    hold_since: Option<Instant>,
    /// Jobs were given back for that. One is taken at a time until one has ended.
    probing: bool,
    /// No jobs are asked for before.
    next_request: Instant,
    refusal: Option<String>,
    trouble: Option<String>,
    /// That logs cannot be stored was reported.
    log_reported: bool,
    done: u64,
    failed: u64,
    input_ended: bool,
    cancelled: bool,
    deleted: bool,
    /// The server denies a permission.
    denied: bool,
    /// No more jobs run.
    closing: bool,
    close_until: Option<Instant>,
}

impl Thread {
    pub(super) fn new(parts: Parts) -> Self {
        let shared = Rc::clone(&parts.shared);
        let (pulls, pulled) = Pulls::new(
            shared.connection.client.clone(),
            &shared.names,
            &shared.names.consumer(&shared.id, parts.recreations),
            parts.spec.lease(),
        );
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
            all_taken: false,
            check_pause: TICK,
            lost_results: false,
            link: *shared.connection.link.borrow(),
            sends: FuturesUnordered::new(),
            renewals: FuturesUnordered::new(),
            server_id: parts.server_id.clone(),
            restarts: 0,
            resumption: FuturesUnordered::new(),
            void_before: 0,
            renewed: since_boot(),
            paused: false,
            late: false,
            unchecked: false,
            no_consumer_since: None,
            lost_since: None,
            outage: Duration::ZERO,
            hold_since: None,
            probing: false,
            next_request: now,
            refusal: None,
            trouble: None,
            log_reported: false,
            done: 0,
            failed: 0,
            input_ended: false,
            cancelled: false,
            deleted: false,
            denied: false,
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
        let mut heartbeat = ticker(self.heartbeat_interval());
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
                        self.handle(message);
                    }
                }
                _ = self.pulled.recv_many(&mut pulled, AT_ONCE) => self.take(&mut pulled),
                Some((number, stored)) = self.publications.next() => {
                    self.stored(number, &stored);
                }
                Some(()) = self.acknowledgements.next() => {}
                Some(looked) = self.lookups.next() => self.looked(looked),
                Some(()) = self.sends.next() => {}
                Some(renewed) = self.renewals.next() => self.were_renewed(renewed),
                Some(progress) = self.check.next() => self.checked(progress),
                Some(resumed) = self.resumption.next() => self.resumed(resumed),
                Ok(()) = link.changed() => {
                    let now = *link.borrow_and_update();
                    self.link_changed(now);
                }
                Some(_) = next(&mut cancellations) => self.cancel(),
                _ = renewal.tick() => self.renew(),
                _ = heartbeat.tick() => self.send_heartbeat(false),
                _ = tick.tick() => self.look(),
            }
        }
        self.pulls.abort();
        if self.close_until.is_some() && !self.publications.is_empty() {
            let left = self.publications.len();
            say(&not_stored(left));
        }
        if self.link.up {
            self.send_heartbeat(true);
            let sent = async { while self.sends.next().await.is_some() {} };
            let _ = timeout(ANSWER_TIMEOUT, sent).await;
        }
    }

    fn is_over(&self) -> bool {
        let late = self
            .close_until
            .is_some_and(|until| until <= Instant::now());
        // Without an acknowledgement the job is delivered again, and found to be done. That is no
        // reason to wait for a server that may not come back.
        let acknowledged = self.acknowledgements.is_empty() || !self.link.up;
        let stored = self.publications.is_empty() && acknowledged;
        let waits = self.unfinished > 0 || self.pulls.is_running() || !self.sends.is_empty();
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
        let now = Instant::now();
        let many_wait = self.publications.len() >= WAITING_MAX;
        let may_request = self.pulls.may_request() && now >= self.next_request;
        let resumes = !self.resumption.is_empty();
        if !self.takes_jobs() || self.paused || resumes || many_wait || !may_request {
            return;
        }
        let capacity = match self.probing {
            true => self.parts.admission.active() + 1,
            false => self.parts.admission.limit(),
        };
        let target = capacity + self.pace.ahead(now);
        let set_aside = self.parts.admission.set_aside();
        let have = (self.unfinished + self.pulls.requested()).saturating_sub(set_aside);
        let wanted = target.saturating_sub(have);
        // A free place is filled at once. What is taken ahead of time comes in batches.
        if wanted > 0 && (have < capacity || wanted * 4 >= target) {
            self.pulls.request(wanted);
        }
    }

    /// Sends messages beside the loop.
    fn send(&self, messages: impl Future<Output = ()> + 'static) {
        let limited = timeout(ANSWER_TIMEOUT, messages).map(|_| ());
        self.sends.push(Box::pin(limited));
    }

    fn notice(&self, text: String) {
        // It may quote the server.
        let text = format!("{}\n", one_line(text.trim_end()));
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
