//! The leaves of the previous service, or of the previous image of this one.
//!
//! The library removes the empty leaves of pools whose process has ended, each time that a pool is
//! made in the same group. Before that, this service has to read what they have counted. So it
//! takes the locks of those pools that have leaves of stored watches, before it makes a pool of its
//! own.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::Errno;

use super::leaf::Leaf;
use super::leaf_id::LeafId;

/// How long a child that the previous service has just forked may have a copy of its lock.
const LOCK_TIMEOUT: Duration = Duration::from_millis(200);

/// The locked directory of a pool. Its drop removes it if it is empty.
#[derive(Debug)]
pub(crate) struct PreviousPool {
    path: PathBuf,
    /// Has the lock, which its drop releases.
    _dir: OwnedFd,
}

/// The pools of the previous service, by their directory.
#[derive(Default)]
pub(crate) struct PreviousPools(HashMap<PathBuf, Arc<PreviousPool>>);

impl PreviousPools {
    /// Locks the pools of these leaves.
    pub(crate) fn lock<'a>(leaves: impl Iterator<Item = &'a LeafId>) -> Self {
        let mut pools = HashMap::new();
        for leaf in leaves {
            let Some(path) = leaf.path.parent() else {
                continue;
            };
            // A leaf that was removed keeps no pool.
            if pools.contains_key(path) || leaf.open().is_err() {
                continue;
            }
            match lock(path) {
                Ok(dir) => {
                    let pool = PreviousPool {
                        path: path.to_owned(),
                        _dir: dir,
                    };
                    pools.insert(path.to_owned(), Arc::new(pool));
                }
                Err(error) => {
                    tracing::warn!(pool = %path.display(), %error, "a cgroup pool of the previous service cannot be locked; some reports of its leaves may be missing");
                }
            }
        }
        Self(pools)
    }

    /// The leaf of a stored watch. `None` if it was removed.
    pub(crate) fn leaf(&self, id: LeafId) -> Option<Leaf> {
        id.open().ok()?;
        let pool = id.path.parent().and_then(|path| self.0.get(path));
        let pool = pool.cloned();
        Some(Leaf::of_previous(id, pool))
    }
}

fn lock(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = open(path, flags, Mode::empty())?;
    let end = Instant::now() + LOCK_TIMEOUT;
    loop {
        match flock(&dir, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(5));
            }
            result => return result.map(|()| dir),
        }
    }
}

impl Drop for PreviousPool {
    fn drop(&mut self) {
        // This fails while leaves are left in it, which the next pool in the same group removes.
        let _ = rustix::fs::rmdir(&self.path);
    }
}
