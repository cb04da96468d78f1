//! The pools of the service: one for each user and set of limits.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use exitring::{Cgroup, CgroupError, CgroupPool};
use exitring_protocol::{CgroupLimits, Error};

use super::leaf::Leaf;
use super::refusal::{no_cgroup, refusal, unusable};
use super::slots::{POOLS_MAX, Slots};

/// How many leaves one pool has at most, those with processes that a child has left included.
const LEAVES_MAX: usize = 4096;
/// The sub-group of `Cgroup::enter_leaf`.
const SUPERVISOR: &str = "exitring-supervisor";

/// The value of `--cgroup`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CgroupOption {
    /// The cgroup of the service, which enters a sub-group of it.
    Own,
    /// A delegated cgroup.
    Path(PathBuf),
}

impl std::str::FromStr for CgroupOption {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "own" => Self::Own,
            path => Self::Path(path.into()),
        })
    }
}

/// All pools.
pub(crate) struct Pools {
    /// `None` without `--cgroup`.
    group: Option<Cgroup>,
    /// The user that runs the service.
    own_uid: u32,
    slots: Mutex<Slots<CgroupPool>>,
}

impl Pools {
    /// Finds the group, and checks that it is delegated. This also removes the empty leaves that
    /// killed programs have left in it.
    pub(crate) fn open(option: Option<&CgroupOption>, own_uid: u32) -> Result<Self, CgroupError> {
        let group = option.map(find).transpose()?;
        if let Some(group) = &group {
            group.pool(&exitring::CgroupLimits::new())?;
        }
        Ok(Self {
            group,
            own_uid,
            slots: Mutex::default(),
        })
    }

    /// Takes a leaf for a child. Blocks briefly: groups are made.
    pub(crate) fn acquire(&self, uid: u32, limits: &CgroupLimits) -> Result<Leaf, Error> {
        let group = self.group.as_ref().ok_or_else(no_cgroup)?;
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let (pool, in_use) = match slots.find(uid, limits) {
            Some(found) => found,
            None => {
                // Making a pool removes the empty leaves of pools that were dropped.
                let clean = || drop(group.pool(&exitring::CgroupLimits::new()));
                slots.make_room(uid, self.limit(uid), clean)?;
                let pool = make(group, limits).map_err(|error| refusal(&error))?;
                let in_use = slots.add(uid, *limits, pool.clone(), pool.path());
                (pool, in_use)
            }
        };
        drop(slots);
        let leaf = pool.acquire().map_err(|error| refusal(&error))?;
        Leaf::of_pool(leaf, in_use).map_err(|error| unusable(&error))
    }

    /// How many pools a user may have: the one that runs the service all, and others a quarter.
    fn limit(&self, uid: u32) -> usize {
        match uid == self.own_uid {
            true => POOLS_MAX,
            false => POOLS_MAX / 4,
        }
    }
}

fn find(option: &CgroupOption) -> Result<Cgroup, CgroupError> {
    let path = match option {
        CgroupOption::Path(path) => return Cgroup::at(path),
        CgroupOption::Own => Cgroup::find()?.path().to_owned(),
    };
    // The previous image of this service has entered the sub-group.
    let group = match path.parent() {
        Some(parent) if path.ends_with(SUPERVISOR) => Cgroup::at(parent)?,
        _ => Cgroup::at(path)?,
    };
    group.enter_leaf()?;
    Ok(group)
}

fn make(group: &Cgroup, limits: &CgroupLimits) -> Result<CgroupPool, CgroupError> {
    let mut its = exitring::CgroupLimits::new();
    if let Some(bytes) = limits.memory {
        its = its.memory(bytes);
    }
    if let Some(count) = limits.processes {
        its = its.processes(count);
    }
    if let Some(cpus) = limits.cpus {
        its = its.cpus(cpus.count());
    }
    let pool = group.pool(&its)?;
    pool.set_max_leaves(LEAVES_MAX);
    Ok(pool)
}
