//! The state folder: lock, database, schema.

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use exitring_protocol::Moment;
use rusqlite::{Connection, OptionalExtension, Row};
use rustix::fs::{FlockOperation, fcntl_lock, flock};

use super::age::AgeClock;
use crate::serve::clock::{monotonic_ms, now_ms};
use crate::serve::live::Birth;
use crate::serve::named_file::{NamedFile, touch};

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
    pub(crate) age: AgeClock,
    /// Held as long as we are: nobody else writes.
    pub(crate) lock: File,
    lock_file: NamedFile,
    /// Locked, too, but only so that `systemd-tmpfiles` passes it by.
    opened_folder: File,
    /// Those of the database, itself first.
    files: Vec<NamedFile>,
}

/// A watch that was live when the service ended.
#[derive(Clone, Debug)]
pub(crate) struct Restored {
    pub(crate) birth: Birth,
    /// Which boot of the machine it was in.
    pub(crate) boot: String,
}

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
        let lock_path = folder.join("lock");
        let lock = match lock {
            Some(lock) if is_at(&lock, &lock_path) => lock,
            // Of a file that was deleted meanwhile: it keeps nobody out.
            _ => lock_state(folder)?,
        };
        let path = database(folder);
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
        let (instance, age) =
            prepare(&mut db).with_context(|| format!("reading {}", path.display()))?;
        let named = |path: &Path| {
            NamedFile::at(path).with_context(|| format!("looking at {}", path.display()))
        };
        Ok(Self {
            db,
            instance,
            retention,
            age,
            lock,
            lock_file: named(&lock_path)?,
            opened_folder: File::open(folder)
                .with_context(|| format!("opening {}", folder.display()))?,
            files: ["", "-wal", "-shm"]
                .map(|ending| named(&with_ending(&path, ending)))
                .into_iter()
                .collect::<Result<_>>()?,
            folder: folder.to_owned(),
        })
    }

    /// The file that readers open.
    pub(crate) fn path(&self) -> PathBuf {
        database(&self.folder)
    }

    /// Whether all of it is still ours; the lock is made again if it was deleted.
    ///
    /// # Errors
    ///
    /// What was done to it.
    pub(crate) fn check(&mut self) -> Result<()> {
        if let Some(gone) = self.files.iter().find(|file| file.is_gone()) {
            bail!(
                "{} was deleted, moved or replaced while the service used it; see what did that, and start the service again",
                gone.path.display()
            );
        }
        if self.lock_file.is_gone() {
            self.lock = lock_state(&self.folder)?;
            self.lock_file = NamedFile::at(&self.lock_file.path)?;
            tracing::warn!(lock = %self.lock_file.path.display(), "the lock was deleted, and is made again");
        }
        Ok(())
    }

    /// Keeps it from what deletes files that are old: some spare a folder that is locked, all of them new files.
    pub(crate) fn touch(&self) {
        // Not if what waits at a gate has a copy of the lock of the service before; then the next time.
        let _ = flock(
            &self.opened_folder,
            FlockOperation::NonBlockingLockExclusive,
        );
        touch(&self.lock_file.path);
        for file in &self.files {
            touch(&file.path);
        }
    }

    /// The watches that were live when the last service ended.
    pub(crate) fn restored(&self) -> Result<Vec<Restored>> {
        let mut rows = self.db.prepare(
            "SELECT id, uid, client, tag, pid, start_ticks, inode, boot, spawned, reaped, began_ms, \
             deadline_monotonic_ms, grace_ms FROM watches ORDER BY id",
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

fn database(folder: &Path) -> PathBuf {
    folder.join("exits.sqlite")
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut path = path.to_owned().into_os_string();
    path.push(ending);
    path.into()
}

fn lock_state(folder: &Path) -> Result<File> {
    lock_file(&folder.join("lock"))?.with_context(|| {
        format!(
            "another service has the state folder {}; stop it, or choose another --state",
            folder.display()
        )
    })
}

/// From version 1, which had deadlines and ages by the wall clock. The clock by which records age begins with its time.
const FROM_1: &str = "
ALTER TABLE watches RENAME COLUMN deadline_ms TO deadline_monotonic_ms;
ALTER TABLE records RENAME COLUMN ended_ms TO age_ms;
";

/// Makes the tables if there are none, or those of today of what is there. Returns the instance's name, and its clock.
fn prepare(db: &mut Connection) -> Result<(String, AgeClock)> {
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
            // What is left of each by the clock of that time. Those of another boot are past anyway.
            change.execute(
                "UPDATE watches SET deadline_monotonic_ms = min(max(deadline_monotonic_ms - ?1, 0), 1 << 61) + ?2 \
                 WHERE deadline_monotonic_ms IS NOT NULL",
                [now_ms(), monotonic_ms()],
            )?;
            change.pragma_update(None, "user_version", SCHEMA_VERSION)?;
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
    let age = AgeClock::open(&change)?;
    change.commit()?;
    Ok((instance, age))
}

/// Whether this is the file of that name.
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    let ids = |its: std::fs::Metadata| (its.dev(), its.ino());
    let named = std::fs::symlink_metadata(path).map(ids);
    matches!((file.metadata().map(ids), named), (Ok(open), Ok(named)) if open == named)
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
