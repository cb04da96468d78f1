//! The writer thread: it receives all that has arrived, commits it at once, and answers.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use exitring_protocol::Error;
use rusqlite::Result;
use tokio::sync::watch;

use super::health::Health;
use super::message::{Message, PendingAck, ProcessExit, refusal};
use super::recent::RecentRecords;
use super::record_counts::RecordCounts;
use super::state::StateDirectory;
use super::tables;
use super::transaction::{Committed, Requests, Transaction};
use crate::serve::metrics::Metrics;
use crate::serve::sys::{clock, process};
use crate::serve::watches::{Deadlines, Registry};

/// Messages in one transaction at most.
const BATCH_MAX: usize = 1024;
/// When a failed write is retried.
const RETRY_AFTER: Duration = Duration::from_millis(250);
/// How often outdated records are deleted.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(60);
/// How often the files of the state are checked while nothing is written.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How often the times of the files are updated. Cleaners delete files after days.
const TOUCH_INTERVAL: Duration = Duration::from_secs(3600);

pub(super) struct Writer {
    state: StateDirectory,
    boot: String,
    recent: Arc<RecentRecords>,
    committed: watch::Sender<u64>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    registry: Arc<Registry>,
    deadlines: Arc<Deadlines>,
    /// Exits to store: at most one for each live watch.
    exits: Vec<ProcessExit>,
    acks: VecDeque<PendingAck>,
    next_seq: u64,
    records: RecordCounts,
    next_housekeeping: Instant,
    next_touch: Instant,
}

impl Writer {
    pub(super) fn new(
        state: StateDirectory,
        recent: Arc<RecentRecords>,
        committed: watch::Sender<u64>,
        metrics: Arc<Metrics>,
        health: Arc<Health>,
        registry: Arc<Registry>,
        deadlines: Arc<Deadlines>,
    ) -> Result<Self> {
        let next_seq = *committed.borrow() + 1;
        let records = RecordCounts::new(tables::count_records(&state.db)?);
        metrics.records.set(records.total() as i64);
        Ok(Self {
            state,
            boot: clock::boot_id(),
            recent,
            committed,
            metrics,
            health,
            registry,
            deadlines,
            exits: Vec::new(),
            acks: VecDeque::new(),
            next_seq,
            records,
            next_housekeeping: Instant::now(),
            next_touch: Instant::now(),
        })
    }

    /// Runs until the store is stopped. Returns the state directory.
    pub(super) fn run(mut self, queue: &Receiver<Message>) -> StateDirectory {
        loop {
            let (mut requests, stop) = self.receive(queue);
            self.check_files();
            if !self.health.is_writable() {
                self.refuse_all(&mut requests);
            }
            if self.has_work(&requests) {
                self.commit(&mut requests);
            }
            if stop {
                break;
            }
        }
        if !self.exits.is_empty() {
            // They are live watches still, and the next start looks for their processes.
            tracing::error!(
                exits = self.exits.len(),
                "exits could not be stored before the end; the next start records what the kernel still reports of them"
            );
        }
        self.state
    }

    /// Receives all messages that have arrived, and waits for the first. The flag says whether to
    /// stop.
    fn receive(&mut self, queue: &Receiver<Message>) -> (Requests, bool) {
        let mut requests = Requests::default();
        let timeout = match self.health.is_writable() {
            false => RETRY_AFTER,
            true if self.acks.is_empty() && !self.has_surplus() => self
                .next_housekeeping
                .saturating_duration_since(Instant::now())
                .min(CHECK_INTERVAL),
            true => Duration::ZERO,
        };
        let mut next = queue.recv_timeout(timeout);
        let mut received = 0;
        loop {
            match next {
                Ok(Message::Begin(info, reply)) => requests.begins.push((info, reply)),
                Ok(Message::Forget(watch, reply)) => requests.forgets.push((watch, reply)),
                Ok(Message::Terminated(watch, at_ms)) => requests.terminated.push((watch, at_ms)),
                Ok(Message::Exit(exit)) => self.exits.push(exit),
                Ok(Message::Ack(ack)) => self.acks.push_back(ack),
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return (requests, true),
                Err(RecvTimeoutError::Timeout) => return (requests, false),
            }
            received += 1;
            // Checked before the next message is taken from the queue, so that none is lost.
            if received == BATCH_MAX {
                return (requests, false);
            }
            next = queue.try_recv().map_err(|_| RecvTimeoutError::Timeout);
        }
    }

    /// Checks that the files still have their names: what is written to others would be lost with
    /// this process.
    fn check_files(&mut self) {
        if self.health.is_lost() {
            return;
        }
        if let Err(error) = self.state.check() {
            self.metrics.storage_failing.set(1);
            return self.health.set_lost(&format!("{error:#}"));
        }
        if self.next_touch <= Instant::now() {
            self.state.touch();
            self.next_touch = Instant::now() + TOUCH_INTERVAL;
        }
    }

    fn has_work(&self, requests: &Requests) -> bool {
        let has_requests = !(requests.begins.is_empty()
            && requests.forgets.is_empty()
            && requests.terminated.is_empty());
        let has_backlog = !(self.exits.is_empty() && self.acks.is_empty());
        let is_due = self.next_housekeeping <= Instant::now();
        has_requests || has_backlog || is_due || self.has_surplus() || !self.health.is_writable()
    }

    fn commit(&mut self, requests: &mut Requests) {
        if self.health.is_lost() {
            return self.fail(requests);
        }
        let started = Instant::now();
        let transaction = Transaction {
            boot: &self.boot,
            requests,
            exits: &self.exits,
            ack: self.acks.front(),
            next_seq: self.next_seq,
            records: &self.records,
            housekeeping: self.next_housekeeping <= Instant::now(),
            probe: !self.health.is_writable(),
        };
        match transaction.commit(&mut self.state) {
            Ok(done) => {
                self.metrics
                    .commit_seconds
                    .observe(started.elapsed().as_secs_f64());
                self.publish(requests, done);
                self.metrics.storage_failing.set(0);
                self.health.set_writable();
            }
            Err(error) => {
                self.metrics.storage_failing.set(1);
                self.health
                    .set_failing(&error.to_string(), !self.exits.is_empty());
                self.fail(requests);
            }
        }
    }

    /// After a failed commit: requests are refused, exits are kept and retried.
    fn fail(&mut self, requests: &mut Requests) {
        self.refuse_all(requests);
        for ack in mem::take(&mut self.acks) {
            let _ = ack.reply.send(Err(self.refusal()));
        }
        self.metrics.pending.set(self.exits.len() as i64);
    }

    /// After a commit: answers requests, publishes records, and reaps.
    fn publish(&mut self, requests: &mut Requests, mut done: Committed) {
        self.records = mem::take(&mut done.records);
        self.update_metrics(&done);
        for (_, reply) in requests.begins.drain(..) {
            let _ = reply.send(Ok(()));
        }
        for ((_, reply), existed) in requests.forgets.drain(..).zip(done.forgotten) {
            let _ = reply.send(Ok(existed));
        }
        let count = done.entries.len() as u64;
        let exits = mem::take(&mut self.exits);
        // Removed before the records are published: a client that has a record finds no live watch.
        let ended: Vec<_> = exits
            .iter()
            .filter_map(|exit| {
                let id = exit.live.info.id;
                self.deadlines.remove(id);
                self.registry.remove(id)
            })
            .collect();
        if count > 0 {
            self.next_seq += count;
            self.recent.push(done.entries.into_iter());
            self.committed.send_replace(self.next_seq - 1);
        }
        for exit in &exits {
            // A child is reaped only now. As long as its record could be lost with this process, an
            // image that is executed in place can query its status again.
            if exit.live.is_child {
                process::reap(exit.live.info.pid);
            }
        }
        for live in ended {
            live.cancel();
        }
        if let Some((count, finished)) = done.acked {
            if let Some(ack) = self.acks.front_mut() {
                ack.deleted += count;
            }
            if finished && let Some(ack) = self.acks.pop_front() {
                let _ = ack.reply.send(Ok(ack.deleted));
            }
        }
        if done.dropped > 0 {
            tracing::warn!(
                records = done.dropped,
                "unacknowledged records were dropped: they exceeded the limits of --keep and --keep-for"
            );
        }
        if done.housekeeping_done {
            self.next_housekeeping = Instant::now() + HOUSEKEEPING_INTERVAL;
        }
    }

    /// Before the answers, so that a client that has an answer finds it counted.
    fn update_metrics(&self, done: &Committed) {
        let exits = done.entries.len() as u64;
        let metrics = &self.metrics;
        metrics.records.set(self.records.total() as i64);
        metrics.dropped.inc_by(done.dropped);
        metrics.pending.set(0);
        metrics.commits.inc();
        if exits > 0 {
            metrics.exits.inc_by(exits);
            metrics.unknown.inc_by(done.unknown);
            metrics.batch.observe(exits as f64);
        }
    }

    /// Whether there are more records than are kept.
    fn has_surplus(&self) -> bool {
        self.records.total() > self.state.retention.records
    }

    fn refuse_all(&self, requests: &mut Requests) {
        for (_, reply) in requests.begins.drain(..) {
            let _ = reply.send(Err(self.refusal()));
        }
        for (_, reply) in requests.forgets.drain(..) {
            let _ = reply.send(Err(self.refusal()));
        }
    }

    fn refusal(&self) -> Error {
        refusal(&self.health.write_error().unwrap_or_default())
    }
}
