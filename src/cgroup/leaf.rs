//! The group of one child.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::OFlags;

use super::error::CgroupError;
use super::files::{self, Events};
use super::kill::kill_group;
use super::pool::Shared;
use super::report::CgroupReport;
use crate::error::SystemError;

/// The cgroup of one child and of all its descendants, taken from a
/// [`CgroupPool`](crate::CgroupPool).
///
/// Its drop returns the cgroup to the pool, without waiting for anything. It holds no descriptor;
/// each call opens what it needs.
#[derive(Debug)]
pub struct CgroupLeaf {
    shared: Arc<Shared>,
    number: u64,
    /// Whether no further child can start in it.
    spoiled: AtomicBool,
}

impl CgroupLeaf {
    pub(super) fn new(shared: Arc<Shared>, number: u64) -> Self {
        Self {
            shared,
            number,
            spoiled: AtomicBool::new(false),
        }
    }

    /// The directory of the cgroup.
    pub fn path(&self) -> PathBuf {
        self.shared.pool_dir.path.join(self.name())
    }

    /// Whether a process that has not ended is in the cgroup, or in one that the child made in it.
    ///
    /// # Errors
    ///
    /// `Missing` if another program removed the cgroup; `NoDescriptors`.
    pub fn is_populated(&self) -> Result<bool, CgroupError> {
        let events = Events::read(self.dir(), Path::new(&self.name()));
        let events = events.map_err(|error| CgroupError::from_call("read", &self.path(), error))?;
        Ok(events.populated)
    }

    /// Kills all processes of the cgroup with `SIGKILL`, also those in groups that the child made
    /// in it, whatever user they run as.
    ///
    /// The call does not wait for their end. From Linux 5.14 on it is one write to `cgroup.kill`,
    /// and no process escapes by forking. Before, the cgroup is frozen (Linux 5.2), and the
    /// processes are signalled one by one; that takes some milliseconds, and processes of other
    /// users may remain.
    ///
    /// # Errors
    ///
    /// `Missing` if another program removed the cgroup; `NotDelegated`; `NoDescriptors`; before
    /// Linux 5.14 `StillForking`, and `System` for a process that may not be signalled.
    pub fn kill(&self) -> Result<(), CgroupError> {
        // From Linux 6.14 on (and in stable versions with the same change), a process that starts
        // with CLONE_INTO_CGROUP in a cgroup that was killed before is killed too: the kernel
        // compares the count of kills with that of the cgroup that the process comes from.
        self.spoil();
        kill_group(self.dir(), Path::new(&self.name()), &self.path())
    }

    /// Opens the directory for `clone3(2)` with `CLONE_INTO_CGROUP`.
    pub(crate) fn open_dir(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        files::open(self.dir(), Path::new(&self.name()), flags)
    }

    /// Opens `cgroup.procs`, to which a process writes "0" to enter the cgroup: the way before
    /// Linux 5.7.
    pub(crate) fn open_procs(&self) -> io::Result<OwnedFd> {
        let path = Path::new(&self.name()).join("cgroup.procs");
        files::open(self.dir(), &path, OFlags::WRONLY)
    }

    /// Which processes are in the cgroup, and what it has counted. Three system calls if it is
    /// empty and its memory is not measured.
    pub(crate) fn report(&self) -> CgroupReport {
        CgroupReport::read(self.dir(), Path::new(&self.name()), self.shared.uses_memory)
    }

    /// The error for an errno of [`open_dir`](Self::open_dir), [`open_procs`](Self::open_procs), of
    /// a `clone3(2)` with the descriptor of the former, or of a write to the latter.
    ///
    /// The leaf does not serve another child if the error says that none can start in it.
    pub(crate) fn map_clone_error(&self, errno: i32) -> CgroupError {
        let path = self.path();
        if let libc::ENOENT | libc::ENODEV | libc::EBUSY | libc::EOPNOTSUPP = errno {
            self.spoil();
        }
        match errno {
            libc::EBUSY => CgroupError::ControllersEnabled { path },
            libc::EBADF => CgroupError::NotACgroup { path },
            _ => {
                let source = io::Error::from_raw_os_error(errno);
                match CgroupError::from_call("clone3", &path, source) {
                    CgroupError::System(SystemError { source, .. }) => {
                        CgroupError::System(SystemError {
                            call: "clone3 with CLONE_INTO_CGROUP",
                            source,
                        })
                    }
                    other => other,
                }
            }
        }
    }

    /// Marks that no further child is to start in it.
    pub(crate) fn spoil(&self) {
        self.spoiled.store(true, Ordering::Relaxed);
    }

    fn name(&self) -> String {
        self.number.to_string()
    }

    fn dir(&self) -> &OwnedFd {
        &self.shared.pool_dir.dir
    }
}

impl Drop for CgroupLeaf {
    fn drop(&mut self) {
        self.shared.take_back(self.number, *self.spoiled.get_mut());
    }
}
