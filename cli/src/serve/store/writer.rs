//! The thread that writes: takes all that has come, commits it at once, answers.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use exitring_protocol::{Error, Outcome, Record};
use rusqlite::Result;
use tokio::sync::{oneshot, watch};

use super::health::Health;
use super::tail::{Entry, Tail};
use super::{Ended, Message, Scope, State, refusal, tables};
use crate::serve::clock::boot_id;
use crate::serve::deadlines::Deadlines;
use crate::serve::live::Registry;
use crate::serve::metrics::Metrics;
use crate::serve::process;

/// What goes into one transaction at most.
const BATCH_MAX: usize = 1024;
/// Acknowledged or outdated records let go in one transaction: others wait meanwhile.
const DELETE_MAX: u64 = 5_000;
/// When what could not be written is tried again.
const RETRY: Duration = Duration::from_millis(250);
/// How often age is looked at.
const HOUSEKEEPING: Duration = Duration::from_secs(60);
/// How often it is looked whether the state is still there, when nothing is written.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often its files are made new ones to what deletes old files: they do after days.
const TOUCH_EVERY: Duration = Duration::from_secs(3600);

pub(super) struct Writer {
    state: State,
    boot: String,
    tail: Arc<Tail>,
    committed: watch::Sender<u64>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    registry: Arc<Registry>,
    deadlines: Arc<Deadlines>,
    /// Exits to be written down: one at most of each live watch.
    exits: Vec<Ended>,
    acks: VecDeque<Ack>,
    next_seq: u64,
    /// Records that there are, by user.
    records: HashMap<u32, u64>,
    next_housekeeping: Instant,
    next_touch: Instant,
}

/// Records to be let go, a part in each transaction.
struct Ack {
    scope: Scope,
    upto: u64,
    done: u64,
    reply: oneshot::Sender<std::result::Result<u64, Error>>,
}

type Begin = (
    crate::serve::live::Birth,
    oneshot::Sender<std::result::Result<(), Error>>,
);
type Forget = (u64, oneshot::Sender<std::result::Result<bool, Error>>);

/// Requests of one round.
#[derive(Default)]
struct Round {
    begins: Vec<Begin>,
    forgets: Vec<Forget>,
    stop: bool,
}

/// What a transaction did, to be told once it is committed.
#[derive(Default)]
struct Done {
    entries: Vec<Entry>,
    /// Of the exits, the ones of unknown outcome.
    unknown: u64,
    forgotten: Vec<bool>,
    acked: Option<(u64, bool)>,
    dropped: u64,
    /// Whether more may be outdated.
    more: bool,
    /// How many there are then, by user.
    records: HashMap<u32, u64>,
}

impl Writer {
    pub(super) fn new(
        state: State,
        tail: Arc<Tail>,
        committed: watch::Sender<u64>,
        metrics: Arc<Metrics>,
        health: Arc<Health>,
        registry: Arc<Registry>,
        deadlines: Arc<Deadlines>,
    ) -> Result<Self> {
        let next_seq = *committed.borrow() + 1;
        let records: HashMap<_, _> = tables::count_records(&state.db)?.into_iter().collect();
        metrics.records.set(all(&records) as i64);
        Ok(Self {
            state,
            boot: boot_id(),
            tail,
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

    /// Until it is stopped; gives the state back.
    pub(super) fn run(mut self, inbox: &Receiver<Message>) -> State {
        loop {
            let mut round = self.take(inbox);
            self.look_after_files();
            if self.in_trouble() {
                self.refuse_all(&mut round);
            }
            if self.has_work(&round) {
                self.commit(&mut round);
            }
            if round.stop {
                break;
            }
        }
        if !self.exits.is_empty() {
            // They are live watches still, and will be looked for after the restart.
            tracing::error!(
                exits = self.exits.len(),
                "exits could not be written down before the end; the next start will say what it can of them"
            );
        }
        self.state
    }

    /// What has come; waits for the first.
    fn take(&mut self, inbox: &Receiver<Message>) -> Round {
        let mut round = Round::default();
        let patience = match self.in_trouble() {
            true => RETRY,
            false if self.acks.is_empty() && !self.too_many() => self
                .next_housekeeping
                .saturating_duration_since(Instant::now())
                .min(LOOK_EVERY),
            false => Duration::ZERO,
        };
        let mut next = inbox.recv_timeout(patience);
        let mut taken = 0;
        loop {
            match next {
                Ok(Message::Begin(birth, reply)) => round.begins.push((birth, reply)),
                Ok(Message::Forget(watch, reply)) => round.forgets.push((watch, reply)),
                Ok(Message::Exit(ended)) => self.exits.push(ended),
                Ok(Message::Ack { scope, upto, reply }) => self.acks.push_back(Ack {
                    scope,
                    upto,
                    done: 0,
                    reply,
                }),
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => {
                    round.stop = true;
                    return round;
                }
                Err(RecvTimeoutError::Timeout) => return round,
            }
            taken += 1;
            // What is fetched is dealt with: it is looked whether there is room before, not after.
            if taken == BATCH_MAX {
                return round;
            }
            next = inbox.try_recv().map_err(|_| RecvTimeoutError::Timeout);
        }
    }

    /// What is written to files without names would be gone with us.
    fn look_after_files(&mut self) {
        if self.health.is_gone() {
            return;
        }
        if let Err(error) = self.state.check() {
            self.metrics.storage_failing.set(1);
            return self.health.lose(&format!("{error:#}"));
        }
        if self.next_touch <= Instant::now() {
            self.state.touch();
            self.next_touch = Instant::now() + TOUCH_EVERY;
        }
    }

    fn has_work(&self, round: &Round) -> bool {
        let asked = !(round.begins.is_empty() && round.forgets.is_empty());
        let waits = !(self.exits.is_empty() && self.acks.is_empty());
        let due = self.next_housekeeping <= Instant::now();
        asked || waits || due || self.too_many() || self.in_trouble()
    }

    fn commit(&mut self, round: &mut Round) {
        if self.health.is_gone() {
            return self.fail(round);
        }
        let started = Instant::now();
        match self.transact(round) {
            Ok(done) => {
                self.metrics
                    .commit_seconds
                    .observe(started.elapsed().as_secs_f64());
                self.tell(round, done);
                self.metrics.storage_failing.set(0);
                self.health.get_well();
            }
            Err(error) => {
                self.metrics.storage_failing.set(1);
                self.health
                    .fall_ill(&error.to_string(), !self.exits.is_empty());
                self.fail(round);
            }
        }
    }

    /// Nothing of it is there: requests are refused, exits are kept and tried again.
    fn fail(&mut self, round: &mut Round) {
        self.refuse_all(round);
        if let Some(ack) = self.acks.pop_front() {
            let _ = ack.reply.send(Err(self.refusal()));
        }
        self.metrics.pending.set(self.exits.len() as i64);
    }

    fn transact(&mut self, round: &Round) -> Result<Done> {
        let mut done = Done::default();
        let in_trouble = self.in_trouble();
        let change = self
            .state
            .db
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        if in_trouble {
            tables::probe(&change)?;
        }
        for (birth, _) in &round.begins {
            tables::begin(&change, birth, &self.boot)?;
        }
        for (watch, _) in &round.forgets {
            done.forgotten.push(tables::strike_out(&change, *watch)?);
        }
        let age_ms = self.state.age.now_ms();
        for ended in &self.exits {
            let birth = &ended.live.birth;
            if !tables::strike_out(&change, birth.id)? {
                // Forgotten, or written down before.
                continue;
            }
            let seq = self.next_seq + done.entries.len() as u64;
            let body = body(seq, ended);
            tables::insert_record(&change, seq, birth, age_ms, &body)?;
            done.unknown += u64::from(matches!(ended.outcome, Outcome::Unknown(_)));
            done.entries.push(Entry {
                uid: birth.uid,
                client: birth.client.clone(),
                body,
            });
        }
        let mut records = self.records.clone();
        for entry in &done.entries {
            *records.entry(entry.uid).or_default() += 1;
        }
        if let Some(ack) = self.acks.front() {
            let count = tables::acknowledge(&change, &ack.scope, ack.upto, DELETE_MAX)?;
            done.acked = Some((count, count < DELETE_MAX));
            if let Some(uid) = ack.scope.uid {
                take(&mut records, &[(uid, count)]);
            }
        }
        let retention = &self.state.retention;
        if self.next_housekeeping <= Instant::now() {
            let age = u64::try_from(retention.age.as_millis()).unwrap_or(u64::MAX);
            let before = age_ms.saturating_sub(age);
            let dropped = tables::drop_outdated(&change, before, DELETE_MAX)?;
            done.dropped += take(&mut records, &dropped);
            done.more = done.dropped == DELETE_MAX;
            if all(&records) > 0 {
                self.state.age.save(&change)?;
            }
        }
        let beyond = all(&records).saturating_sub(retention.records);
        // Of whoever has most: nobody can have others' records dropped by having many.
        let most = records.iter().max_by_key(|(_, count)| **count);
        if beyond > 0
            && let Some((&uid, &count)) = most
        {
            let surplus = beyond.min(count).min(DELETE_MAX);
            let dropped = tables::drop_surplus(&change, uid, surplus)?;
            done.dropped += take(&mut records, &dropped);
        }
        done.records = records;
        change.commit()?;
        Ok(done)
    }

    /// After the commit.
    fn tell(&mut self, round: &mut Round, mut done: Done) {
        self.records = mem::take(&mut done.records);
        self.count(&done);
        for (_, reply) in round.begins.drain(..) {
            let _ = reply.send(Ok(()));
        }
        for ((_, reply), was_there) in round.forgets.drain(..).zip(done.forgotten) {
            let _ = reply.send(Ok(was_there));
        }
        let exits = done.entries.len() as u64;
        let ended = mem::take(&mut self.exits);
        // Who is told of an exit finds no live watch any more.
        let over: Vec<_> = ended
            .iter()
            .filter_map(|ended| {
                let id = ended.live.birth.id;
                self.deadlines.remove(id);
                self.registry.remove(id)
            })
            .collect();
        if exits > 0 {
            self.next_seq += exits;
            self.tail.push(done.entries.into_iter());
            self.committed.send_replace(self.next_seq - 1);
        }
        for ended in &ended {
            // A child is let go of by the kernel only now: as long as its record could still be lost with us, an image
            // that is executed in place can ask for its status again.
            if ended.live.own {
                process::reap(ended.live.birth.pid);
            }
        }
        for live in over {
            live.let_go();
        }
        if let Some((count, finished)) = done.acked {
            if let Some(ack) = self.acks.front_mut() {
                ack.done += count;
            }
            if finished && let Some(ack) = self.acks.pop_front() {
                let _ = ack.reply.send(Ok(ack.done));
            }
        }
        if done.dropped > 0 {
            tracing::warn!(
                records = done.dropped,
                "unacknowledged records were dropped: more, or older ones, than --keep and --keep-for allow"
            );
        }
        // Outdated ones may be left when a part was dropped.
        if !done.more && self.next_housekeeping <= Instant::now() {
            self.next_housekeeping = Instant::now() + HOUSEKEEPING;
        }
    }

    /// Before anybody is told, so that who is told finds it counted.
    fn count(&mut self, done: &Done) {
        let exits = done.entries.len() as u64;
        let metrics = &self.metrics;
        metrics.records.set(all(&self.records) as i64);
        metrics.dropped.inc_by(done.dropped);
        metrics.pending.set(0);
        metrics.commits.inc();
        if exits > 0 {
            metrics.exits.inc_by(exits);
            metrics.unknown.inc_by(done.unknown);
            metrics.batch.observe(exits as f64);
        }
    }

    fn too_many(&self) -> bool {
        all(&self.records) > self.state.retention.records
    }

    fn refuse_all(&self, round: &mut Round) {
        for (_, reply) in round.begins.drain(..) {
            let _ = reply.send(Err(self.refusal()));
        }
        for (_, reply) in round.forgets.drain(..) {
            let _ = reply.send(Err(self.refusal()));
        }
    }

    fn refusal(&self) -> Error {
        refusal(&self.health.trouble().unwrap_or_default())
    }

    fn in_trouble(&self) -> bool {
        !self.health.is_well()
    }
}

/// Of all users.
fn all(records: &HashMap<u32, u64>) -> u64 {
    records.values().sum()
}

/// Counts fewer; returns how many fewer.
fn take(records: &mut HashMap<u32, u64>, gone: &[tables::OfUser]) -> u64 {
    for (uid, count) in gone {
        let left = records.entry(*uid).or_default();
        *left = left.saturating_sub(*count);
        if *left == 0 {
            records.remove(uid);
        }
    }
    gone.iter().map(|(_, count)| count).sum()
}

fn body(seq: u64, ended: &Ended) -> String {
    let birth = &ended.live.birth;
    let record = Record {
        seq,
        watch: birth.id,
        pid: birth.pid,
        tag: birth.tag.clone(),
        client: birth.client.clone(),
        uid: birth.uid,
        spawned: birth.spawned,
        outcome: ended.outcome,
        usage: ended.usage,
        began_ms: birth.began_ms,
        ended_ms: ended.ended_ms,
        timed_out: ended.live.timed_out(),
    };
    serde_json::to_string(&record).expect("a record has no maps with keys that are no texts")
}
