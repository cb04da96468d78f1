//! One transaction of the writer.

use exitring_protocol::{Outcome, Record};
use rusqlite::Result;

use super::message::{PendingAck, ProcessExit, Reply};
use super::recent::Entry;
use super::record_counts::RecordCounts;
use super::state::StateDirectory;
use super::tables;
use crate::serve::watches::WatchInfo;

/// Acknowledged or outdated records that one transaction deletes at most: others wait meanwhile.
const DELETE_MAX: u64 = 5_000;

/// Requests that are answered after the commit.
#[derive(Default)]
pub(super) struct Requests {
    pub(super) begins: Vec<(WatchInfo, Reply<()>)>,
    pub(super) forgets: Vec<(u64, Reply<bool>)>,
    /// Watches, and when SIGTERM was sent.
    pub(super) terminated: Vec<(u64, u64)>,
}

/// The input of a transaction.
pub(super) struct Transaction<'a> {
    pub(super) boot: &'a str,
    pub(super) requests: &'a Requests,
    pub(super) exits: &'a [ProcessExit],
    pub(super) ack: Option<&'a PendingAck>,
    /// The sequence number of the first new record.
    pub(super) next_seq: u64,
    pub(super) records: &'a RecordCounts,
    /// Whether to delete outdated records.
    pub(super) housekeeping: bool,
    /// Whether to write something in any case, because the last write failed.
    pub(super) probe: bool,
}

/// What a committed transaction did.
#[derive(Default)]
pub(super) struct Committed {
    pub(super) entries: Vec<Entry>,
    /// How many of the exits have an unknown outcome.
    pub(super) unknown: u64,
    /// For each request to forget a watch, whether there was one.
    pub(super) forgotten: Vec<bool>,
    /// How many acknowledged records were deleted, and whether these were the last.
    pub(super) acked: Option<(u64, bool)>,
    /// How many records were dropped by the retention limits.
    pub(super) dropped: u64,
    /// Whether all outdated records were deleted.
    pub(super) housekeeping_done: bool,
    /// How many records there are now.
    pub(super) records: RecordCounts,
}

impl Transaction<'_> {
    /// Commits it. After an error nothing is changed.
    pub(super) fn commit(self, state: &mut StateDirectory) -> Result<Committed> {
        let mut done = Committed::default();
        let change = state
            .db
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        if self.probe {
            tables::probe(&change)?;
        }
        for (info, _) in &self.requests.begins {
            tables::begin(&change, info, self.boot)?;
        }
        for (watch, _) in &self.requests.forgets {
            done.forgotten.push(tables::delete_watch(&change, *watch)?);
        }
        for (watch, at_ms) in &self.requests.terminated {
            tables::set_terminated(&change, *watch, *at_ms)?;
        }
        let age_ms = state.age.now_ms();
        let mut records = self.records.clone();
        for exit in self.exits {
            let info = &exit.live.info;
            if !tables::delete_watch(&change, info.id)? {
                // The watch was cancelled, or its record was stored before.
                continue;
            }
            let seq = self.next_seq + done.entries.len() as u64;
            let body = body(seq, exit);
            tables::insert_record(&change, seq, info, age_ms, &body)?;
            done.unknown += u64::from(matches!(exit.outcome, Outcome::Unknown(_)));
            done.entries.push(Entry {
                uid: info.uid,
                client: info.client.clone(),
                body,
            });
            records.add_one(info.uid);
        }
        if let Some(ack) = self.ack {
            let count = tables::acknowledge(&change, &ack.scope, ack.upto, DELETE_MAX)?;
            done.acked = Some((count, count < DELETE_MAX));
            if let Some(uid) = ack.scope.uid {
                records.subtract(&[(uid, count)]);
            }
        }
        let retention = &state.retention;
        if self.housekeeping {
            let age = u64::try_from(retention.age.as_millis()).unwrap_or(u64::MAX);
            let before = age_ms.saturating_sub(age);
            let dropped = tables::drop_outdated(&change, before, DELETE_MAX)?;
            done.dropped += records.subtract(&dropped);
            done.housekeeping_done = done.dropped < DELETE_MAX;
            if records.total() > 0 {
                state.age.save(&change)?;
            }
        }
        let surplus = records.total().saturating_sub(retention.records);
        // The user with the most records loses them: no user can cause another's records to be
        // dropped.
        if surplus > 0
            && let Some((uid, count)) = records.largest()
        {
            let surplus = surplus.min(count).min(DELETE_MAX);
            let dropped = tables::drop_surplus(&change, uid, surplus)?;
            done.dropped += records.subtract(&dropped);
        }
        done.records = records;
        change.commit()?;
        Ok(done)
    }
}

fn body(seq: u64, exit: &ProcessExit) -> String {
    let info = &exit.live.info;
    let record = Record {
        seq,
        watch: info.id,
        pid: info.pid,
        tag: info.tag.clone(),
        client: info.client.clone(),
        uid: info.uid,
        spawned: info.spawned,
        outcome: exit.outcome,
        usage: exit.usage,
        cgroup: exit.cgroup,
        began_ms: info.began_ms,
        ended_ms: exit.ended_ms,
        timed_out: exit.live.timed_out(),
    };
    serde_json::to_string(&record).expect("a record has no maps with keys that are not strings")
}
