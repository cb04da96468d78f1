//! The tables, and the upgrade from older versions of them.

use anyhow::{Result, bail};
use rusqlite::Connection;

use super::age_clock::AgeClock;
use crate::serve::sys::clock::{monotonic_ms, now_ms};

const SCHEMA_VERSION: i64 = 2;

pub(super) const SCHEMA: &str = "
CREATE TABLE meta (name TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID;
CREATE TABLE watches (
    id INTEGER PRIMARY KEY AUTOINCREMENT, uid INTEGER NOT NULL, client TEXT NOT NULL, tag TEXT NOT NULL,
    pid INTEGER NOT NULL, start_ticks INTEGER NOT NULL, inode INTEGER, boot TEXT NOT NULL,
    spawned INTEGER NOT NULL, reaped INTEGER NOT NULL, began_ms INTEGER NOT NULL,
    deadline_monotonic_ms INTEGER, grace_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE records (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, watch INTEGER NOT NULL UNIQUE, uid INTEGER NOT NULL, client TEXT NOT NULL,
    age_ms INTEGER NOT NULL, body TEXT NOT NULL
) STRICT;
CREATE INDEX records_of ON records (uid, client, seq);
CREATE TABLE losses (
    uid INTEGER NOT NULL, client TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, count INTEGER NOT NULL,
    PRIMARY KEY (uid, client)
) STRICT, WITHOUT ROWID;
";

/// For requests without a client name, which concern all records of a user. Created also in an
/// existing state directory.
pub(super) const INDEX: &str = "CREATE INDEX IF NOT EXISTS records_of_user ON records (uid, seq);";

/// The cgroup of a watch: the path of its directory, and the inode number. Added also to an existing
/// state directory. The version stays the same, because a version of the program that does not know
/// the columns leaves them alone.
const LEAF: &str = "
ALTER TABLE watches ADD COLUMN leaf BLOB;
ALTER TABLE watches ADD COLUMN leaf_inode INTEGER;
";

/// The upgrade from version 1, which had deadlines and ages by the wall clock. The age clock starts
/// at the time of the wall clock.
const FROM_1: &str = "
ALTER TABLE watches RENAME COLUMN deadline_ms TO deadline_monotonic_ms;
ALTER TABLE records RENAME COLUMN ended_ms TO age_ms;
";

/// Adds the columns of [`LEAF`] unless they exist.
pub(super) fn add_leaf(db: &Connection) -> rusqlite::Result<()> {
    let exists = "SELECT count(*) FROM pragma_table_info('watches') WHERE name = 'leaf_inode'";
    let exists: bool = db.query_row(exists, [], |row| row.get(0))?;
    match exists {
        true => Ok(()),
        false => db.execute_batch(LEAF),
    }
}

/// Creates the tables, or upgrades them. Returns the name of the instance, and its age clock.
pub(super) fn prepare(db: &mut Connection) -> Result<(String, AgeClock)> {
    let change = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let version: i64 = change.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match version {
        0 => {
            change.execute_batch(SCHEMA)?;
            change.pragma_update(None, "user_version", SCHEMA_VERSION)?;
            let instance: String =
                change.query_row("SELECT lower(hex(randomblob(8)))", [], |row| row.get(0))?;
            change.execute("INSERT INTO meta VALUES ('instance', ?)", [&instance])?;
        }
        1 => {
            change.execute_batch(FROM_1)?;
            // Converts the time that is left of each deadline. Those of another boot have passed in
            // any case.
            change.execute(
                "UPDATE watches SET deadline_monotonic_ms = min(max(deadline_monotonic_ms - ?1, 0), 1 << 61) + ?2 \
                 WHERE deadline_monotonic_ms IS NOT NULL",
                [now_ms(), monotonic_ms()],
            )?;
            change.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        }
        SCHEMA_VERSION => {}
        other => bail!(
            "its schema has version {other}, but this program supports {SCHEMA_VERSION}; use the version of exitring that created it"
        ),
    }
    change.execute_batch(INDEX)?;
    add_leaf(&change)?;
    let instance = change.query_row(
        "SELECT value FROM meta WHERE name = 'instance'",
        [],
        |row| row.get(0),
    )?;
    let age = AgeClock::open(&change)?;
    change.commit()?;
    Ok((instance, age))
}
