//! What the writer does to the tables, inside its transaction.

use exitring_protocol::Moment;
use rusqlite::{Connection, Result, params};

use super::Scope;
use crate::serve::live::Birth;

pub(super) fn begin(db: &Connection, birth: &Birth, boot: &str) -> Result<()> {
    db.prepare_cached(
        "INSERT INTO watches (id, uid, client, tag, pid, start_ticks, inode, boot, spawned, reaped, began_ms, \
         deadline_ms, grace_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        birth.id,
        birth.uid,
        birth.client,
        birth.tag,
        birth.pid,
        birth.start_ticks,
        birth.inode.map(|inode| inode as i64),
        boot,
        birth.spawned,
        birth.until == Moment::Reaped,
        birth.began_ms,
        birth.deadline_ms,
        birth.grace_ms,
    ])?;
    Ok(())
}

/// Whether there was one. This is what makes exactly one record of a watch: who strikes it out writes the record, in the
/// same transaction.
pub(super) fn strike_out(db: &Connection, watch: u64) -> Result<bool> {
    let mut delete = db.prepare_cached("DELETE FROM watches WHERE id = ?")?;
    Ok(delete.execute([watch])? == 1)
}

pub(super) fn insert_record(
    db: &Connection,
    seq: u64,
    birth: &Birth,
    ended_ms: u64,
    body: &str,
) -> Result<()> {
    db.prepare_cached(
        "INSERT INTO records (seq, watch, uid, client, ended_ms, body) VALUES (?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        seq,
        birth.id,
        birth.uid,
        birth.client,
        ended_ms,
        body
    ])?;
    Ok(())
}

/// Lets go of acknowledged records, the first `limit` of them. Returns how many there were.
pub(super) fn acknowledge(db: &Connection, scope: &Scope, upto: u64, limit: u64) -> Result<u64> {
    let uid = scope.uid.map(i64::from);
    let its = scope.condition();
    let mut delete = db.prepare_cached(&format!(
        "DELETE FROM records WHERE seq IN (SELECT seq FROM records WHERE {its} AND seq <= ?3 \
         ORDER BY uid, client, seq LIMIT ?4)",
    ))?;
    let deleted = delete.execute(params![uid, scope.client, upto, limit])? as u64;
    if deleted < limit {
        let mut forget =
            db.prepare_cached(&format!("DELETE FROM losses WHERE {its} AND last <= ?3"))?;
        forget.execute(params![uid, scope.client, upto])?;
    }
    Ok(deleted)
}

/// Drops the oldest records: so many, and those that ended before. Writes down whose they were. Returns how many.
pub(super) fn drop_oldest(db: &Connection, count: u64, before_ms: u64, limit: u64) -> Result<u64> {
    let upto: Option<u64> = db
        .prepare_cached(
            "SELECT max(seq) FROM (SELECT seq, ended_ms, row_number() OVER (ORDER BY seq) AS nth \
             FROM (SELECT seq, ended_ms FROM records ORDER BY seq LIMIT ?3)) WHERE nth <= ?1 OR ended_ms < ?2",
        )?
        .query_row(params![count, before_ms, limit], |row| row.get(0))?;
    let Some(upto) = upto else {
        return Ok(0);
    };
    db.prepare_cached(
        "INSERT INTO losses SELECT uid, client, min(seq), max(seq), count(*) FROM records WHERE seq <= ? \
         GROUP BY uid, client ON CONFLICT (uid, client) DO UPDATE SET last = excluded.last, count = count + excluded.count",
    )?
    .execute([upto])?;
    let mut delete = db.prepare_cached("DELETE FROM records WHERE seq <= ?")?;
    Ok(delete.execute([upto])? as u64)
}

pub(super) fn count_records(db: &Connection) -> Result<u64> {
    db.query_row("SELECT count(*) FROM records", [], |row| row.get(0))
}

/// Something harmless, to see whether anything can be written.
pub(super) fn probe(db: &Connection) -> Result<()> {
    db.execute(
        "INSERT INTO meta VALUES ('probe', 1) ON CONFLICT DO UPDATE SET value = value + 1",
        [],
    )?;
    Ok(())
}
