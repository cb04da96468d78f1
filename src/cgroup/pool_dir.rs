//! The group of a pool, in which its leaves are, and those that dead programs have left.
//!
//! The name has the pid of the process and a number. A pid is not unique (the first process of each
//! container is 1), so a name that exists is skipped.
//!
//! Each process locks the directories of its pools (`flock(2)`). The kernel releases the lock when
//! the process has ended, however it ended. So a directory that can be locked is abandoned, whatever
//! pid is in its name. The kernel keeps locks for directories of cgroups as for any other file. A
//! forked child has a copy of the lock until it executes a program or ends, so the removal may be
//! left to a later pool.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, FlockOperation, OFlags, flock, fstat, statat};
use rustix::io::Errno;

use super::error::CgroupError;
use super::{files, tree};

const PREFIX: &str = "exitring-";
/// More names than one process has pools.
const ATTEMPTS: usize = 1 << 16;

/// The number in the name of the next pool.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// The locked directory of a pool.
#[derive(Debug)]
pub(super) struct PoolDir {
    /// Also holds the lock.
    pub(super) dir: OwnedFd,
    pub(super) path: PathBuf,
}

impl PoolDir {
    /// Makes the group of a new pool.
    pub(super) fn make(parent: impl AsFd, parent_path: &Path) -> Result<Self, CgroupError> {
        for _ in 0..ATTEMPTS {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("{PREFIX}{}-{number}", process::id());
            let name = Path::new(&name);
            match files::make_group(parent.as_fd(), name) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(CgroupError::from_mkdir(parent_path, error)),
            }
            let path = parent_path.join(name);
            match open_and_lock(parent.as_fd(), name) {
                Ok(Some(dir)) => return Ok(Self { dir, path }),
                // Another program took it for abandoned before it was locked, and removes it.
                Ok(None) => {}
                Err(error) if files::is_gone(&error) => {}
                Err(source) => {
                    let _ = files::remove_group(parent.as_fd(), name);
                    return Err(CgroupError::from_call("open", &path, source));
                }
            }
        }
        let source = io::ErrorKind::AlreadyExists.into();
        Err(CgroupError::from_call("mkdir", parent_path, source))
    }

    /// Removes the group, if it is empty.
    pub(super) fn remove(&self) {
        if let Some(name) = self.path.file_name() {
            let _ = files::remove_group(&self.dir, &Path::new("..").join(name));
        }
    }
}

/// Opens and locks the directory of a pool. `None` if another process has locked it or removed it.
///
/// Programs remove a directory of another program only while they have locked it. So if it exists
/// after it has been locked, it remains.
fn open_and_lock(parent: impl AsFd, name: &Path) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let dir = files::open(parent.as_fd(), name, flags)?;
    match flock(&dir, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let (opened, named) = (
        fstat(&dir)?,
        statat(parent, name, AtFlags::SYMLINK_NOFOLLOW),
    );
    let is_same =
        named.is_ok_and(|named| (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino));
    Ok(is_same.then_some(dir))
}

/// Removes the groups of pools whose processes have ended, unless processes are in them.
///
/// What cannot be removed remains for the next call.
pub(super) fn remove_abandoned(parent: impl AsFd) {
    let here = Path::new(".");
    let found = tree::sub_groups(parent.as_fd(), here, tree::GROUPS_MAX).unwrap_or_default();
    for pool in found {
        if !pool.file_name().is_some_and(is_pool) {
            continue;
        }
        // The lock is released when the descriptor is closed, after the removal.
        let Ok(Some(_locked)) = open_and_lock(parent.as_fd(), &pool) else {
            continue;
        };
        let leaves = tree::sub_groups(parent.as_fd(), &pool, tree::GROUPS_MAX);
        for leaf in leaves.unwrap_or_default() {
            let _ = tree::remove(parent.as_fd(), &leaf);
        }
        let _ = files::remove_group(parent.as_fd(), &pool);
    }
}

/// Whether a name is one that [`PoolDir::make`] gives.
fn is_pool(name: &OsStr) -> bool {
    let numbers = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    numbers
        .and_then(|numbers| numbers.split_once('-'))
        .is_some_and(|(pid, number)| is_number(pid) && is_number(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_pools_are_names_of_pools() {
        for name in ["exitring-1-0", "exitring-4194304-18446744073709551615"] {
            assert!(is_pool(OsStr::new(name)), "{name}");
        }
        for name in [
            "exitring-supervisor",
            "exitring-1",
            "exitring--1",
            "exitring-1-",
            "exitring-1-2-3",
            "exitring-1-x",
            "x-1-2",
        ] {
            assert!(!is_pool(OsStr::new(name)), "{name}");
        }
    }
}
