//! The statements of the writer's transaction.

use std::os::unix::ffi::OsStrExt;

use exitring_protocol::WatchFor;
use rusqlite::{Connection, Result, params};

use super::record_counts::UserCount;
use crate::serve::watches::{Scope, WatchInfo};

/// For how many client names of a user the dropped records are counted: the most recent ones.
const LOSSES_MAX: u32 = 64;

pub(super) fn begin(db: &Connection, info: &WatchInfo, boot: &str) -> Result<()> {
    db.prepare_cached(
        "INSERT INTO watches (id, uid, client, tag, pid, start_ticks, inode, boot, spawned, reaped, began_ms, \
         deadline_monotonic_ms, grace_ms, leaf, leaf_inode) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        info.id,
        info.uid,
        info.client,
        info.tag,
        info.pid,
        info.start_ticks,
        info.inode.map(|inode| inode as i64),
        boot,
        info.spawned,
        info.until == WatchFor::Reaped,
        info.began_ms,
        info.deadline_ms,
        info.grace_ms,
        info.leaf.as_ref().map(|leaf| leaf.path.as_os_str().as_bytes()),
        info.leaf.as_ref().map(|leaf| leaf.inode as i64),
    ])?;
    Ok(())
}

pub(super) fn set_terminated(db: &Connection, watch: u64, at_ms: u64) -> Result<()> {
    db.prepare_cached("UPDATE watches SET terminated_monotonic_ms = ? WHERE id = ?")?
        .execute(params![at_ms, watch])?;
    Ok(())
}

/// Deletes a live watch. Returns whether there was one.
///
/// This makes sure that a watch has exactly one record: the transaction that deletes the watch
/// inserts its record.
pub(super) fn delete_watch(db: &Connection, watch: u64) -> Result<bool> {
    let mut delete = db.prepare_cached("DELETE FROM watches WHERE id = ?")?;
    Ok(delete.execute([watch])? == 1)
}

pub(super) fn insert_record(
    db: &Connection,
    seq: u64,
    info: &WatchInfo,
    age_ms: u64,
    body: &str,
) -> Result<()> {
    db.prepare_cached(
        "INSERT INTO records (seq, watch, uid, client, age_ms, body) VALUES (?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![seq, info.id, info.uid, info.client, age_ms, body])?;
    Ok(())
}

/// The SQL condition for the rows of a scope.
///
/// A condition such as `(?1 IS NULL OR uid = ?1)` would fit all scopes, but SQLite does not use an
/// index for it.
pub(super) fn condition(scope: &Scope) -> &'static str {
    match (scope.uid, &scope.client) {
        (Some(_), Some(_)) => "uid = ?1 AND client = ?2",
        (Some(_), None) => "uid = ?1 AND ?2 IS NULL",
        (None, Some(_)) => "?1 IS NULL AND client = ?2",
        (None, None) => "?1 IS NULL AND ?2 IS NULL",
    }
}

fn acknowledged(scope: &Scope) -> String {
    format!(
        "SELECT seq FROM records WHERE {} AND seq <= ?3 ORDER BY seq LIMIT ?4",
        condition(scope)
    )
}

/// Deletes acknowledged records, the first `limit` of them. Returns how many there were.
pub(super) fn acknowledge(db: &Connection, scope: &Scope, upto: u64, limit: u64) -> Result<u64> {
    let uid = scope.uid.map(i64::from);
    let its = condition(scope);
    let mut delete = db.prepare_cached(&format!(
        "DELETE FROM records WHERE seq IN ({})",
        acknowledged(scope)
    ))?;
    let deleted = delete.execute(params![uid, scope.client, upto, limit])? as u64;
    if deleted < limit {
        let mut forget =
            db.prepare_cached(&format!("DELETE FROM losses WHERE {its} AND last <= ?3"))?;
        forget.execute(params![uid, scope.client, upto])?;
    }
    Ok(deleted)
}

/// The oldest records of one user.
const SURPLUS: &str =
    "SELECT seq FROM records INDEXED BY records_of_user WHERE uid = ?1 ORDER BY seq LIMIT ?2";
/// Among the oldest records, those stored before a time. A state directory that is older than the age
/// clock may have them in any order.
const OUTDATED: &str =
    "SELECT seq FROM (SELECT seq, age_ms FROM records ORDER BY seq LIMIT ?2) WHERE age_ms < ?1";

/// Drops the oldest `count` records of a user.
pub(super) fn drop_surplus(db: &Connection, uid: u32, count: u64) -> Result<Vec<UserCount>> {
    drop_records(db, SURPLUS, params![uid, count])
}

/// Drops the records that were stored before a time, among the first `limit` in the log.
pub(super) fn drop_outdated(db: &Connection, before_ms: u64, limit: u64) -> Result<Vec<UserCount>> {
    drop_records(db, OUTDATED, params![before_ms, limit])
}

/// Deletes records and counts them as lost for their owners. Reads no other records.
fn drop_records(
    db: &Connection,
    which: &str,
    its: impl rusqlite::Params + Copy,
) -> Result<Vec<UserCount>> {
    let mut count = db.prepare_cached(&format!(
        "SELECT uid, count(*) FROM records WHERE seq IN ({which}) GROUP BY uid"
    ))?;
    let dropped: Vec<UserCount> = count
        .query_map(its, |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_>>()?;
    if dropped.is_empty() {
        return Ok(dropped);
    }
    db.prepare_cached(&format!(
        "INSERT INTO losses SELECT uid, client, min(seq), max(seq), count(*) FROM records WHERE seq IN ({which}) \
         GROUP BY uid, client ON CONFLICT (uid, client) DO UPDATE SET first = min(first, excluded.first), \
         last = max(last, excluded.last), count = count + excluded.count"
    ))?
    .execute(its)?;
    for (uid, _) in &dropped {
        db.prepare_cached(
            "DELETE FROM losses WHERE uid = ?1 AND client IN \
             (SELECT client FROM losses WHERE uid = ?1 ORDER BY last DESC LIMIT -1 OFFSET ?2)",
        )?
        .execute(params![uid, LOSSES_MAX])?;
    }
    db.prepare_cached(&format!("DELETE FROM records WHERE seq IN ({which})"))?
        .execute(its)?;
    Ok(dropped)
}

/// Counts the records of each user.
pub(super) fn count_records(db: &Connection) -> Result<Vec<UserCount>> {
    let mut count = db.prepare("SELECT uid, count(*) FROM records GROUP BY uid")?;
    let rows = count.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

/// A harmless write, which shows whether the state can be written.
pub(super) fn probe(db: &Connection) -> Result<()> {
    db.execute(
        "INSERT INTO meta VALUES ('probe', 1) ON CONFLICT DO UPDATE SET value = value + 1",
        [],
    )?;
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::serve::store::schema::{INDEX, SCHEMA};

    fn tables() -> Connection {
        let db = Connection::open_in_memory().expect("there is memory");
        db.execute_batch(SCHEMA).expect("it is SQL");
        db.execute_batch(INDEX).expect("it is SQL");
        db
    }

    /// How SQLite executes a statement.
    fn plan(db: &Connection, sql: &str, parameters: usize) -> String {
        let mut explain = db
            .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
            .expect("it is SQL");
        let nothing = rusqlite::params_from_iter(vec![1; parameters]);
        let rows = explain.query_map(nothing, |row| row.get::<_, String>(3));
        let steps: Result<Vec<_>> = rows.expect("it is planned").collect();
        steps.expect("it is planned").join("; ")
    }

    /// Asserts that a query finds its rows in order, by an index.
    pub(in crate::serve::store) fn assert_in_order(sql: impl Fn(&Scope) -> String) {
        let db = tables();
        let scope = |uid, client: Option<&str>| Scope {
            uid,
            client: client.map(Into::into),
        };
        for scope in [
            scope(None, None),
            scope(Some(7), None),
            scope(Some(7), Some("c")),
        ] {
            let plan = plan(&db, &sql(&scope), 4);
            assert!(!plan.contains("TEMP B-TREE"), "{scope:?}: {plan}");
            assert!(plan.starts_with("SEARCH"), "{scope:?}: {plan}");
        }
    }

    #[test]
    fn acknowledged_and_dropped_records_are_found_by_an_index_without_a_sort() {
        assert_in_order(acknowledged);
        let db = tables();
        let surplus = plan(&db, SURPLUS, 2);
        assert!(
            surplus.starts_with("SEARCH") && !surplus.contains("TEMP"),
            "{surplus}"
        );
    }

    fn insert(db: &Connection, seq: u64, uid: u32, client: &str, age_ms: u64) {
        db.execute(
            "INSERT INTO records VALUES (?1, ?1, ?2, ?3, ?4, '')",
            params![seq, uid, client, age_ms],
        )
        .expect("it is new");
    }

    fn seqs(db: &Connection) -> Vec<u64> {
        let mut select = db
            .prepare("SELECT seq FROM records ORDER BY seq")
            .expect("it is SQL");
        let rows = select
            .query_map([], |row| row.get(0))
            .expect("it can be read");
        rows.collect::<Result<_>>().expect("it can be read")
    }

    #[test]
    fn only_outdated_records_are_dropped_after_the_clock_was_set() {
        let db = tables();
        for (seq, age_ms) in [(1, 100), (2, 900), (3, 100), (4, 900)] {
            insert(&db, seq, 7, "", age_ms);
        }
        assert_eq!(drop_outdated(&db, 500, 10).expect("it works"), [(7, 2)]);
        assert_eq!(seqs(&db), [2, 4]);
        assert_eq!(drop_outdated(&db, 500, 10).expect("it works"), []);
    }

    #[test]
    fn a_surplus_is_dropped_from_one_user_and_losses_are_kept_for_some_of_its_names() {
        let db = tables();
        for seq in 0..200 {
            insert(&db, 2 * seq + 1, 7, &format!("name {seq}"), 1);
            insert(&db, 2 * seq + 2, 8, "", 1);
        }
        assert_eq!(drop_surplus(&db, 7, 150).expect("it works"), [(7, 150)]);
        assert_eq!(drop_surplus(&db, 8, 1).expect("it works"), [(8, 1)]);
        let of = |sql: &str| {
            db.query_row(sql, [], |row| row.get::<_, u64>(0))
                .expect("it works")
        };
        assert_eq!(of("SELECT count(*) FROM losses WHERE uid = 7"), 64);
        assert_eq!(of("SELECT max(last) FROM losses WHERE uid = 7"), 299);
        assert_eq!(of("SELECT last FROM losses WHERE uid = 8"), 2);
        let mut left = count_records(&db).expect("it works");
        left.sort_unstable();
        assert_eq!(left, [(7, 50), (8, 199)]);
    }
}
