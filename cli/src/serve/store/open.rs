//! The state folder: lock, database, schema.

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use exitring_protocol::Moment;
use rusqlite::{Connection, OptionalExtension, Row};
use rustix::fs::{FlockOperation, fcntl_lock};

use crate::serve::live::Birth;

/// What a commit survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Durability {
    /// The end of the service, SIGKILL included; a power failure may take the last records, never the log's order
    Process,
    /// A power failure, too: each commit waits for the disk
    Power,
}

/// How much is kept that nobody has acknowledged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retention {
    pub(crate) records: u64,
    pub(crate) age: Duration,
}

/// A state folder that is ours.
pub(crate) struct State {
    pub(crate) db: Connection,
    pub(crate) folder: PathBuf,
    /// A name made when it was new.
    pub(crate) instance: String,
    pub(crate) retention: Retention,
    /// Held as long as we are: nobody else writes.
    pub(crate) lock: File,
}

/// A watch that was live when the service ended.
#[derive(Clone, Debug)]
pub(crate) struct Restored {
    pub(crate) birth: Birth,
    /// Which boot of the machine it was in.
    pub(crate) boot: String,
}

const SCHEMA_VERSION: i64 = 1;

pub(super) const SCHEMA: &str = "
CREATE TABLE meta (name TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID;
CREATE TABLE watches (
    id INTEGER PRIMARY KEY AUTOINCREMENT, uid INTEGER NOT NULL, client TEXT NOT NULL, tag TEXT NOT NULL,
    pid INTEGER NOT NULL, start_ticks INTEGER NOT NULL, inode INTEGER, boot TEXT NOT NULL,
    spawned INTEGER NOT NULL, reaped INTEGER NOT NULL, began_ms INTEGER NOT NULL,
    deadline_ms INTEGER, grace_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE records (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, watch INTEGER NOT NULL UNIQUE, uid INTEGER NOT NULL, client TEXT NOT NULL,
    ended_ms INTEGER NOT NULL, body TEXT NOT NULL
) STRICT;
CREATE INDEX records_of ON records (uid, client, seq);
CREATE TABLE losses (
    uid INTEGER NOT NULL, client TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, count INTEGER NOT NULL,
    PRIMARY KEY (uid, client)
) STRICT, WITHOUT ROWID;
";

/// For those who read or let go of what a user has, with whatever names; made also where it is not there yet.
pub(super) const INDEX: &str = "CREATE INDEX IF NOT EXISTS records_of_user ON records (uid, seq);";

impl State {
    /// Opens or makes a state folder. `lock`: handed over by the process image before this one.
    pub(crate) fn open(
        folder: &Path,
        durability: Durability,
        retention: Retention,
        lock: Option<File>,
    ) -> Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .with_context(|| format!("making the state folder {}", folder.display()))?;
        let lock = match lock {
            Some(lock) => lock,
            None => lock_file(&folder.join("lock"))?.with_context(|| {
                format!(
                    "another service has the state folder {}; stop it, or choose another --state",
                    folder.display()
                )
            })?,
        };
        let path = folder.join("exits.sqlite");
        let open = || -> rusqlite::Result<Connection> {
            let db = Connection::open(&path)?;
            db.set_prepared_statement_cache_capacity(32);
            db.pragma_update(None, "journal_mode", "wal")?;
            let synchronous = match durability {
                Durability::Process => "normal",
                Durability::Power => "full",
            };
            db.pragma_update(None, "synchronous", synchronous)?;
            // What a burst made of the log's file is given back.
            db.pragma_update(None, "journal_size_limit", 16 << 20)?;
            Ok(db)
        };
        let mut db = open().with_context(|| format!("opening {}", path.display()))?;
        let instance = prepare(&mut db).with_context(|| format!("reading {}", path.display()))?;
        Ok(Self {
            db,
            folder: folder.to_owned(),
            instance,
            retention,
            lock,
        })
    }

    /// The file that readers open.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.join("exits.sqlite")
    }

    /// The watches that were live when the last service ended.
    pub(crate) fn restored(&self) -> Result<Vec<Restored>> {
        let mut rows = self.db.prepare(
            "SELECT id, uid, client, tag, pid, start_ticks, inode, boot, spawned, reaped, began_ms, \
             deadline_ms, grace_ms FROM watches ORDER BY id",
        )?;
        let rows = rows.query_map([], restored)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// The last place in the log, and the last watch, that were ever given.
    pub(crate) fn last(&self) -> Result<(u64, u64)> {
        let last = |table: &str| {
            let sql = "SELECT seq FROM sqlite_sequence WHERE name = ?";
            let last = self.db.query_row(sql, [table], |row| row.get(0)).optional();
            last.map(Option::unwrap_or_default)
        };
        Ok((last("records")?, last("watches")?))
    }
}

fn restored(row: &Row<'_>) -> rusqlite::Result<Restored> {
    Ok(Restored {
        birth: Birth {
            id: row.get(0)?,
            uid: row.get(1)?,
            client: row.get(2)?,
            tag: row.get(3)?,
            pid: row.get(4)?,
            start_ticks: row.get(5)?,
            inode: row.get::<_, Option<i64>>(6)?.map(|inode| inode as u64),
            spawned: row.get(8)?,
            until: match row.get(9)? {
                true => Moment::Reaped,
                false => Moment::Exited,
            },
            began_ms: row.get(10)?,
            deadline_ms: row.get(11)?,
            grace_ms: row.get(12)?,
        },
        boot: row.get(7)?,
    })
}

/// Makes the tables if there are none. Returns the instance's name.
fn prepare(db: &mut Connection) -> Result<String> {
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
        SCHEMA_VERSION => {}
        other => bail!("its version is {other}, and this program's {SCHEMA_VERSION}"),
    }
    change.execute_batch(INDEX)?;
    let instance = change.query_row(
        "SELECT value FROM meta WHERE name = 'instance'",
        [],
        |row| row.get(0),
    )?;
    change.commit()?;
    Ok(instance)
}

/// Locks a file, made if need be, for as long as it is open; `None`: somebody else has it.
///
/// The lock is one of the process (`F_SETLK`), and not of the descriptor (`flock`): of that, what is forked and waits at its
/// gate has a copy, and would hold it for a moment after we were killed. It stays when the process executes itself anew.
pub(crate) fn lock_file(path: &Path) -> Result<Option<File>> {
    let file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
        .with_context(|| format!("opening {}", path.display()))?;
    ensure!(
        file.metadata()?.is_file(),
        "{} is no file to lock",
        path.display()
    );
    match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::ACCESS) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("locking {}", path.display())),
    }
}
