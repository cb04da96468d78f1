//! The tables, and the upgrade from older versions of them.

use anyhow::{Result, bail};
use rusqlite::{Connection, OptionalExtension};

use super::age_clock::AgeClock;
use crate::serve::sys::clock::{boot_id, monotonic_ms, now_ms};

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

/// Columns that are added also to an existing state directory. The version stays the same, because a
/// version of the program that does not know the columns leaves them alone.
const ADDED_COLUMNS: [(&str, &str); 3] = [
    // The cgroup of a watch: the path of its directory, and the inode number.
    ("leaf", "BLOB"),
    ("leaf_inode", "INTEGER"),
    // When SIGTERM was sent to a process that has timed out.
    ("terminated_monotonic_ms", "INTEGER"),
];

/// How far the numbers of records and watches advance at a boot. A power failure may have lost the
/// last transactions, but clients may have seen their numbers, which must not come again. No boot
/// loses that many.
const NUMBERS_PER_BOOT: i64 = 1_000_000_000;

/// The upgrade from version 1, which had deadlines and ages by the wall clock. The age clock starts
/// at the time of the wall clock.
const FROM_1: &str = "
ALTER TABLE watches RENAME COLUMN deadline_ms TO deadline_monotonic_ms;
ALTER TABLE records RENAME COLUMN ended_ms TO age_ms;
";

/// Adds the columns of [`ADDED_COLUMNS`] that do not exist.
pub(super) fn add_columns(db: &Connection) -> rusqlite::Result<()> {
    let exists = "SELECT count(*) FROM pragma_table_info('watches') WHERE name = ?";
    for (name, kind) in ADDED_COLUMNS {
        let exists: bool = db.query_row(exists, [name], |row| row.get(0))?;
        if !exists {
            db.execute_batch(&format!("ALTER TABLE watches ADD COLUMN {name} {kind}"))?;
        }
    }
    Ok(())
}

/// Advances the numbers of records and watches if the machine was booted since the last start.
///
/// `version`: that of the state before. Version 1 did not store the boot.
fn skip_numbers(db: &Connection, version: i64, boot: &str) -> rusqlite::Result<()> {
    let last_boot = "SELECT value FROM meta WHERE name = 'age_boot'";
    let last_boot: Option<String> = db.query_row(last_boot, [], |row| row.get(0)).optional()?;
    let same_boot = last_boot.map_or(version == 0, |last_boot| last_boot == boot);
    if same_boot {
        return Ok(());
    }
    for table in ["records", "watches"] {
        let skip = "UPDATE sqlite_sequence SET seq = seq + ?2 WHERE name = ?1";
        if db.execute(skip, (table, NUMBERS_PER_BOOT))? == 0 {
            // The first row of the table may be what was lost.
            db.execute(
                "INSERT INTO sqlite_sequence VALUES (?, ?)",
                (table, NUMBERS_PER_BOOT),
            )?;
        }
    }
    Ok(())
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
    add_columns(&change)?;
    skip_numbers(&change, version, &boot_id())?;
    let instance = change.query_row(
        "SELECT value FROM meta WHERE name = 'instance'",
        [],
        |row| row.get(0),
    )?;
    let age = AgeClock::open(&change)?;
    change.commit()?;
    Ok((instance, age))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last(db: &Connection, table: &str) -> i64 {
        let last = "SELECT max(seq) FROM sqlite_sequence WHERE name = ?";
        let last: Option<i64> = db
            .query_row(last, [table], |row| row.get(0))
            .expect("it can be read");
        last.unwrap_or(0)
    }

    #[test]
    fn numbers_advance_at_a_boot_and_only_then() {
        let mut db = Connection::open_in_memory().expect("there is memory");
        prepare(&mut db).expect("it is new");
        let insert = "INSERT INTO records VALUES (?, 1, 1, '', 0, '')";
        db.execute(insert, [7]).expect("it is new");
        // The same boot.
        prepare(&mut db).expect("it is of this version");
        assert_eq!((last(&db, "records"), last(&db, "watches")), (7, 0));
        let boot = "UPDATE meta SET value = 'another' WHERE name = 'age_boot'";
        for boots in 1..=2 {
            db.execute(boot, []).expect("it can be written");
            prepare(&mut db).expect("it is of this version");
            let skipped = boots * NUMBERS_PER_BOOT;
            assert_eq!(last(&db, "records"), skipped + 7);
            // No watch is stored. A lost one may have had any of the first numbers.
            assert_eq!(last(&db, "watches"), skipped);
        }
    }

    #[test]
    fn columns_are_added_to_an_older_state() {
        let mut db = Connection::open_in_memory().expect("there is memory");
        db.execute_batch(SCHEMA).expect("it is SQL");
        db.execute_batch("INSERT INTO meta VALUES ('instance', 'a')")
            .expect("it is SQL");
        db.pragma_update(None, "user_version", SCHEMA_VERSION)
            .expect("it can be set");
        for _ in 0..2 {
            prepare(&mut db).expect("it is of this version");
            db.execute_batch("SELECT leaf, leaf_inode, terminated_monotonic_ms FROM watches")
                .expect("it has the columns");
        }
    }
}
