//! The state directory: its lock and its database.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use exitring_protocol::WatchFor;
use rusqlite::{Connection, OptionalExtension, Row};
use rustix::fs::{FlockOperation, flock};

use super::age_clock::AgeClock;
use super::schema::prepare;
use crate::serve::cgroups::LeafId;
use crate::serve::sys::lock_file::{is_at, lock_file};
use crate::serve::sys::named_file::{NamedFile, touch};
use crate::serve::watches::WatchInfo;

/// What a committed record survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Durability {
    /// The end of the service, SIGKILL included; a power failure may lose the last records, but
    /// never reorders the log
    Process,
    /// Also a power failure: each commit waits for the disk
    Power,
}

/// How many unacknowledged records are kept, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retention {
    pub(crate) records: u64,
    pub(crate) age: Duration,
}

/// The open and locked state directory.
pub(crate) struct StateDirectory {
    pub(crate) db: Connection,
    pub(crate) directory: PathBuf,
    /// A random name, assigned when the directory was created.
    pub(crate) instance: String,
    pub(crate) retention: Retention,
    pub(crate) age: AgeClock,
    /// Held while the service runs, so that no other service writes.
    pub(crate) lock: File,
    lock_file: NamedFile,
    /// Also locked, but only so that `systemd-tmpfiles` skips the directory.
    opened_directory: File,
    /// The files of the database; the database itself first.
    files: Vec<NamedFile>,
}

/// A watch that was live when the service stopped.
#[derive(Clone, Debug)]
pub(crate) struct StoredWatch {
    pub(crate) info: WatchInfo,
    /// The boot of the machine that the process belongs to.
    pub(crate) boot: String,
}

impl StateDirectory {
    /// Opens or creates a state directory. `lock`: handed over by the previous process image.
    pub(crate) fn open(
        directory: &Path,
        durability: Durability,
        retention: Retention,
        lock: Option<File>,
    ) -> Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .with_context(|| format!("creating the state directory {}", directory.display()))?;
        let lock_path = directory.join("lock");
        let lock = match lock {
            Some(lock) if is_at(&lock, &lock_path) => lock,
            // A lock on a deleted file keeps no other service away.
            _ => lock_state(directory)?,
        };
        let path = database(directory);
        // The directory may have been made with another mode. SQLite gives its other files the mode
        // of this one.
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("opening {}", path.display()))?;
        let open = || -> rusqlite::Result<Connection> {
            let db = Connection::open(&path)?;
            db.set_prepared_statement_cache_capacity(32);
            db.pragma_update(None, "journal_mode", "wal")?;
            // What `prepare` changes has to survive a power failure.
            db.pragma_update(None, "synchronous", "full")?;
            // Truncates the write-ahead log after a burst.
            db.pragma_update(None, "journal_size_limit", 16 << 20)?;
            Ok(db)
        };
        let mut db = open().with_context(|| format!("opening {}", path.display()))?;
        let (instance, age) =
            prepare(&mut db).with_context(|| format!("reading {}", path.display()))?;
        if durability == Durability::Process {
            db.pragma_update(None, "synchronous", "normal")
                .with_context(|| format!("opening {}", path.display()))?;
        }
        let named = |path: &Path| {
            NamedFile::at(path).with_context(|| format!("inspecting {}", path.display()))
        };
        Ok(Self {
            db,
            instance,
            retention,
            age,
            lock,
            lock_file: named(&lock_path)?,
            opened_directory: File::open(directory)
                .with_context(|| format!("opening {}", directory.display()))?,
            files: ["", "-wal", "-shm"]
                .map(|ending| named(&with_ending(&path, ending)))
                .into_iter()
                .collect::<Result<_>>()?,
            directory: directory.to_owned(),
        })
    }

    /// The file that readers open.
    pub(crate) fn path(&self) -> PathBuf {
        database(&self.directory)
    }

    /// Checks that the files still have their names. Creates the lock file again if it was deleted.
    ///
    /// # Errors
    ///
    /// A file of the database was deleted, moved or replaced, or another service has the lock.
    pub(crate) fn check(&mut self) -> Result<()> {
        if let Some(missing) = self.files.iter().find(|file| file.is_missing()) {
            bail!(
                "{} was deleted, moved or replaced while the service used it; find out what did that, and restart the service",
                missing.path.display()
            );
        }
        if self.lock_file.is_missing() {
            self.lock = lock_state(&self.directory)?;
            self.lock_file = NamedFile::at(&self.lock_file.path)?;
            tracing::warn!(lock = %self.lock_file.path.display(), "the lock file was deleted, and has been created again");
        }
        Ok(())
    }

    /// Protects the directory from cleaners of old files: some skip a locked directory, and all skip new
    /// files.
    pub(crate) fn touch(&self) {
        // This fails while a child at its start gate has a copy of the previous service's lock. The
        // next call then takes it.
        let _ = flock(
            &self.opened_directory,
            FlockOperation::NonBlockingLockExclusive,
        );
        touch(&self.lock_file.path);
        for file in &self.files {
            touch(&file.path);
        }
    }

    /// The watches that were live when the previous service stopped.
    pub(crate) fn live_watches(&self) -> Result<Vec<StoredWatch>> {
        let mut rows = self.db.prepare(
            "SELECT id, uid, client, tag, pid, start_ticks, inode, boot, spawned, reaped, began_ms, \
             deadline_monotonic_ms, grace_ms, leaf, leaf_inode, terminated_monotonic_ms FROM watches ORDER BY id",
        )?;
        let rows = rows.query_map([], stored_watch)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// The highest sequence number of a record, and the highest number of a watch, ever assigned.
    pub(crate) fn last_numbers(&self) -> Result<(u64, u64)> {
        let last = |table: &str| {
            let sql = "SELECT seq FROM sqlite_sequence WHERE name = ?";
            let last = self.db.query_row(sql, [table], |row| row.get(0)).optional();
            last.map(Option::unwrap_or_default)
        };
        Ok((last("records")?, last("watches")?))
    }
}

fn stored_watch(row: &Row<'_>) -> rusqlite::Result<StoredWatch> {
    Ok(StoredWatch {
        info: WatchInfo {
            id: row.get(0)?,
            uid: row.get(1)?,
            client: row.get(2)?,
            tag: row.get(3)?,
            pid: row.get(4)?,
            start_ticks: row.get(5)?,
            inode: row.get::<_, Option<i64>>(6)?.map(|inode| inode as u64),
            spawned: row.get(8)?,
            until: match row.get(9)? {
                true => WatchFor::Reaped,
                false => WatchFor::Exited,
            },
            began_ms: row.get(10)?,
            deadline_ms: row.get(11)?,
            grace_ms: row.get(12)?,
            terminated_ms: row.get(15)?,
            leaf: leaf(row)?,
        },
        boot: row.get(7)?,
    })
}

fn leaf(row: &Row<'_>) -> rusqlite::Result<Option<LeafId>> {
    let path: Option<Vec<u8>> = row.get(13)?;
    let inode: Option<i64> = row.get(14)?;
    Ok(path.zip(inode).map(|(path, inode)| LeafId {
        path: OsString::from_vec(path).into(),
        inode: inode as u64,
    }))
}

fn database(directory: &Path) -> PathBuf {
    directory.join("exits.sqlite")
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut path = path.to_owned().into_os_string();
    path.push(ending);
    path.into()
}

fn lock_state(directory: &Path) -> Result<File> {
    lock_file(&directory.join("lock"))?.with_context(|| {
        format!(
            "another service has the state directory {}; stop it, or choose another --state",
            directory.display()
        )
    })
}
