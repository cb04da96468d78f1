//! A pool of groups for children, which are made ahead or on demand, and reused.

use std::collections::VecDeque;
use std::mem;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::CgroupError;
use super::files::{self, Events};
use super::group::Cgroup;
use super::leaf::CgroupLeaf;
use super::limits::{CgroupLimits, Setting};
use super::pool_dir::{PoolDir, remove_abandoned};
use super::tree;
use crate::sync::per_process::ProcessIdentity;

/// How many unused leaves are kept, unless more were prepared.
const KEPT: usize = 1024;
/// The default of how many leaves a pool may have.
const LEAVES_MAX: usize = 32_768;
/// How many leaves with leftover processes one call of `acquire` looks at, unless the pool is full.
const CHECKS: usize = 2;

/// A pool of cgroups, each of which holds one child at a time, with all its descendants.
///
/// Made by [`Cgroup::pool`]. Clones share the pool, and threads may share it.
///
/// A leaf returns to the pool when its [`CgroupLeaf`] is dropped, and serves another child once it
/// is empty. A leaf in which processes are left is set aside until they have ended; the pool kills
/// nothing. A leaf that was killed, or whose child made groups of its own, froze it, or used the
/// controller memory, is removed instead, and a new one is made: nothing of an earlier child affects a later one or its
/// report. (A child that may write to the files of its own leaf can change its limits. Such a
/// change would last.)
///
/// When the pool and its leaves have been dropped, their groups are removed, except for those with
/// leftover processes. The next pool of any program in the same group removes these once they are
/// empty. A pool holds one descriptor, and a leaf none.
///
/// In a forked child a copy of a pool refuses calls, and its drop does nothing.
#[derive(Clone, Debug)]
pub struct CgroupPool {
    shared: Arc<Shared>,
}

/// What a pool and its leaves share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) pool_dir: PoolDir,
    pub(super) uses_memory: bool,
    settings: Vec<Setting>,
    owner: ProcessIdentity,
    leaves: Mutex<Leaves>,
}

/// The leaves that no child uses. Each has a number that is its name, and that is not reused.
#[derive(Debug)]
struct Leaves {
    /// Empty leaves.
    free: Vec<u64>,
    /// Leaves in which processes were left.
    aside: VecDeque<SetAside>,
    /// The number of leaves that exist, those in use included.
    count: usize,
    next: u64,
    max: usize,
    /// How many free leaves are kept.
    kept: usize,
}

#[derive(Clone, Copy, Debug)]
struct SetAside {
    number: u64,
    /// Whether the leaf may not be used again.
    spoiled: bool,
}

/// What became of a leaf that a child has used.
enum Returned {
    Free,
    Removed,
    /// Processes are in it, or its state could not be read.
    Occupied,
}

impl CgroupPool {
    pub(super) fn new(group: &Cgroup, limits: &CgroupLimits) -> Result<Self, CgroupError> {
        let settings = limits.settings()?;
        let controllers = limits.controllers();
        let parent = group.open()?;
        // Delegation includes this file. A child starts in a leaf only with write access to it.
        let procs = Path::new("cgroup.procs");
        files::open(&parent, procs, rustix::fs::OFlags::WRONLY)
            .map_err(|source| CgroupError::from_call("open", &group.path().join(procs), source))?;
        remove_abandoned(&parent);
        if !controllers.is_empty() {
            group.enable(&parent, &controllers)?;
        }
        let pool_dir = PoolDir::make(&parent, group.path())?;
        drop(parent);
        // From here on, the drop removes what was made.
        let shared = Shared {
            pool_dir,
            uses_memory: limits.uses_memory(),
            settings,
            owner: ProcessIdentity::current(),
            leaves: Mutex::new(Leaves {
                free: Vec::new(),
                aside: VecDeque::new(),
                count: 0,
                next: 0,
                max: LEAVES_MAX,
                kept: KEPT,
            }),
        };
        let pool = Self {
            shared: Arc::new(shared),
        };
        let PoolDir { dir, path } = &pool.shared.pool_dir;
        group.check_sub_group(dir, Path::new("."))?;
        if !controllers.is_empty() {
            Cgroup::at(path)?.enable(dir, &controllers)?;
        }
        // Shows whether each limit can be set.
        pool.prepare(1)?;
        Ok(pool)
    }

    /// Makes leaves until that many are unused.
    ///
    /// As many are kept from then on. Without this call a leaf is made when one is needed, and up to
    /// 1,024 unused ones are kept.
    ///
    /// # Errors
    ///
    /// `PoolFull`, `TooManyGroups`, `Missing`, `NoDescriptors`, `OutOfMemory`, `ForkedChild`. The
    /// leaves that were made before the error remain.
    pub fn prepare(&self, count: usize) -> Result<(), CgroupError> {
        self.check_process()?;
        loop {
            let mut leaves = self.shared.lock();
            if leaves.free.len() >= count {
                leaves.kept = leaves.kept.max(count);
                return Ok(());
            }
            let number = leaves.add()?;
            drop(leaves);
            self.shared.make(number)?;
            self.shared.lock().free.push(number);
        }
    }

    /// Takes an empty leaf from the pool, or makes one.
    ///
    /// The call does not block: it never waits for a process.
    ///
    /// # Errors
    ///
    /// `PoolFull`, `TooManyGroups`, `Missing` if the group of the pool was removed,
    /// `NoDescriptors`, `OutOfMemory`, `ForkedChild`.
    pub fn acquire(&self) -> Result<CgroupLeaf, CgroupError> {
        self.check_process()?;
        let mut leaves = self.shared.lock();
        if let Some(number) = leaves.free.pop() {
            drop(leaves);
            return Ok(self.leaf(number));
        }
        let checks = match leaves.count < leaves.max {
            true => CHECKS,
            false => usize::MAX,
        };
        let mut unchecked: Vec<_> = {
            let checks = checks.min(leaves.aside.len());
            leaves.aside.drain(..checks).collect()
        };
        drop(leaves);
        let mut found = None;
        while found.is_none() {
            let Some(aside) = unchecked.pop() else { break };
            let returned = self.shared.reset(aside);
            let mut leaves = self.shared.lock();
            match returned {
                Returned::Free => found = Some(aside.number),
                Returned::Removed => leaves.count -= 1,
                Returned::Occupied => leaves.aside.push_back(aside),
            }
        }
        let mut leaves = self.shared.lock();
        leaves.aside.extend(unchecked);
        if let Some(number) = found {
            drop(leaves);
            return Ok(self.leaf(number));
        }
        let number = leaves.add()?;
        drop(leaves);
        self.shared.make(number)?;
        Ok(self.leaf(number))
    }

    /// Sets how many leaves the pool may have, 32,768 by default: those in use, those with leftover
    /// processes, and those that are unused.
    ///
    /// A number below that of the existing leaves removes none.
    pub fn set_max_leaves(&self, max: usize) {
        if self.check_process().is_ok() {
            self.shared.lock().max = max;
        }
    }

    /// The number of leaves that exist: those in use, those with leftover processes, and those that
    /// are unused. 0 in a forked child.
    pub fn leaves(&self) -> usize {
        self.check_process()
            .map_or(0, |()| self.shared.lock().count)
    }

    /// The directory of the pool, in which its leaves are.
    pub fn path(&self) -> PathBuf {
        self.shared.pool_dir.path.clone()
    }

    fn leaf(&self, number: u64) -> CgroupLeaf {
        CgroupLeaf::new(Arc::clone(&self.shared), number)
    }

    /// Refuses calls in a forked child, before they touch the lock, which another thread of the
    /// parent may have held at the fork.
    fn check_process(&self) -> Result<(), CgroupError> {
        match self.shared.owner.is_current() {
            true => Ok(()),
            false => Err(CgroupError::ForkedChild),
        }
    }
}

impl Leaves {
    /// The number of a new leaf, which counts from now on.
    fn add(&mut self) -> Result<u64, CgroupError> {
        if self.count >= self.max {
            return Err(CgroupError::PoolFull {
                max: self.max,
                with_leftovers: self.aside.len(),
            });
        }
        self.count += 1;
        self.next += 1;
        Ok(self.next - 1)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Leaves> {
        // No code that runs under the lock panics.
        self.leaves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the group of a leaf that was added. If that fails, it no longer counts.
    fn make(&self, number: u64) -> Result<(), CgroupError> {
        let result = self.make_group(Path::new(&number.to_string()));
        if result.is_err() {
            self.lock().count -= 1;
        }
        result
    }

    fn make_group(&self, leaf: &Path) -> Result<(), CgroupError> {
        let PoolDir { dir, path } = &self.pool_dir;
        files::make_group(dir, leaf).map_err(|source| CgroupError::from_mkdir(path, source))?;
        let result = self
            .settings
            .iter()
            .try_for_each(|setting| setting.apply(dir, leaf));
        if result.is_err() {
            let _ = files::remove_group(dir, leaf);
        }
        result
    }

    /// Takes back a leaf. In a forked child, which has a copy of the leaf, this does nothing.
    pub(super) fn take_back(&self, number: u64, spoiled: bool) {
        if !self.owner.is_current() {
            return;
        }
        // Other threads may return leaves at the same time, so a few more than that may be kept.
        let is_enough = {
            let leaves = self.lock();
            leaves.free.len() >= leaves.kept
        };
        let spoiled = spoiled || self.uses_memory;
        let used = SetAside { number, spoiled };
        let returned = self.reset(SetAside {
            spoiled: spoiled || is_enough,
            ..used
        });
        let mut leaves = self.lock();
        match returned {
            Returned::Free => leaves.free.push(number),
            Returned::Removed => leaves.count -= 1,
            Returned::Occupied => leaves.aside.push_back(used),
        }
    }

    /// Makes a leaf ready for another child, or removes it.
    ///
    /// No process can enter an empty leaf meanwhile, unless another program moves one into it.
    fn reset(&self, leaf: SetAside) -> Returned {
        let name = leaf.number.to_string();
        let (dir, name) = (&self.pool_dir.dir, Path::new(&name));
        if !leaf.spoiled {
            match Events::read(dir, name) {
                Ok(events) if events.populated => return Returned::Occupied,
                // Groups of the child mean that it may have enabled controllers for them, in which
                // case no process can start in the leaf.
                Ok(events) if !events.frozen && is_childless(dir, name) => return Returned::Free,
                // The removal needs no descriptor.
                _ => {}
            }
        }
        match tree::remove(dir, name) {
            Ok(()) => Returned::Removed,
            Err(_) => Returned::Occupied,
        }
    }
}

fn is_childless(dir: &OwnedFd, leaf: &Path) -> bool {
    files::has_sub_groups(dir, leaf).is_ok_and(|has| !has)
}

impl Drop for Shared {
    fn drop(&mut self) {
        if !self.owner.is_current() {
            return;
        }
        let leaves = self
            .leaves
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        let aside = mem::take(&mut leaves.aside).into_iter();
        let numbers = aside
            .map(|aside| aside.number)
            .chain(mem::take(&mut leaves.free));
        for number in numbers {
            let _ = tree::remove(&self.pool_dir.dir, Path::new(&number.to_string()));
        }
        self.pool_dir.remove();
    }
}
