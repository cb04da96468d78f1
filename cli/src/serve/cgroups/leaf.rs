//! The leaf of one child.

use std::io;
use std::sync::Arc;

use exitring::CgroupLeaf;
use exitring_protocol::CgroupUsage;
use rustix::fs::{Mode, OFlags, openat};

use super::leaf_id::LeafId;
use super::previous::PreviousPool;
use super::report;
use super::slots::InUse;

/// The cgroup of one child and of all its descendants.
///
/// Its drop returns it, without waiting for anything, and kills nothing. It holds no descriptor.
#[derive(Debug)]
pub(crate) struct Leaf {
    id: LeafId,
    owner: Owner,
}

#[derive(Debug)]
enum Owner {
    /// A pool of this service. Its drop returns the leaf to the pool.
    Pool {
        leaf: CgroupLeaf,
        /// Keeps the pool from being removed to make room for another.
        _in_use: InUse,
    },
    /// A pool of the previous service, or of the previous image of this one.
    Previous {
        /// Keeps other programs from removing the leaf before it was read.
        _pool: Option<Arc<PreviousPool>>,
    },
}

impl Leaf {
    pub(super) fn of_pool(leaf: CgroupLeaf, in_use: InUse) -> io::Result<Self> {
        Ok(Self {
            id: LeafId::at(leaf.path())?,
            owner: Owner::Pool {
                leaf,
                _in_use: in_use,
            },
        })
    }

    pub(super) fn of_previous(id: LeafId, pool: Option<Arc<PreviousPool>>) -> Self {
        Self {
            id,
            owner: Owner::Previous { _pool: pool },
        }
    }

    pub(crate) fn id(&self) -> &LeafId {
        &self.id
    }

    /// Moves a process into the leaf. Blocks briefly: the kernel may wait for an RCU grace
    /// period.
    pub(crate) fn enter(&self, pid: i32) -> io::Result<()> {
        self.write("cgroup.procs", &pid.to_string())
    }

    /// Kills all processes of the leaf, whatever user they run as. Does not wait for their end.
    pub(crate) fn kill(&self) -> io::Result<()> {
        match &self.owner {
            // The pool must know it: no other child can start in the leaf.
            Owner::Pool { leaf, .. } => leaf.kill().map_err(io::Error::other),
            Owner::Previous { .. } => match self.write("cgroup.kill", "1") {
                // The leaf is empty if it was removed. Otherwise the kernel is older than 5.14.
                Err(error) if error.kind() == io::ErrorKind::NotFound => match self.id.open() {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                    Err(error) => Err(error),
                    Ok(_) => Err(io::Error::other(
                        "killing a cgroup of the previous service needs Linux 5.14",
                    )),
                },
                result => result,
            },
        }
    }

    /// What the leaf has counted, and how many processes are in it. `None` if it was removed, or
    /// cannot be read.
    pub(crate) fn report(&self) -> Option<CgroupUsage> {
        report::read(&self.id.open().ok()?)
    }

    fn write(&self, file: &str, value: &str) -> io::Result<()> {
        let dir = self.id.open()?;
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&dir, file, flags, Mode::empty())?;
        // A file of a cgroup takes a value as a whole.
        rustix::io::retry_on_intr(|| rustix::io::write(&file, value.as_bytes()))?;
        Ok(())
    }
}

impl Drop for Leaf {
    fn drop(&mut self) {
        if let Owner::Previous { .. } = self.owner
            // The path may be that of another leaf.
            && self.id.open().is_ok()
        {
            // This fails if processes are in it, or groups. The next pool that is made in the same
            // group removes it once they have ended.
            let _ = rustix::fs::rmdir(&self.id.path);
        }
    }
}
