//! How many pools exist, and how many of them are of one user.

use std::path::PathBuf;
use std::sync::Arc;

use exitring_protocol::{CgroupLimits, Code, Error};

/// How many pools there are at most. Each has a descriptor.
pub(super) const POOLS_MAX: usize = 64;

/// A reference to a pool, for as long as one of its leaves is in use.
pub(super) type InUse = Arc<()>;

/// The pools (of type `P`), the one that was used last at the end.
pub(super) struct Slots<P>(Vec<Slot<P>>);

/// A pool of one user.
struct Slot<P> {
    uid: u32,
    limits: CgroupLimits,
    path: PathBuf,
    /// `None` once the pool was dropped. Children have left processes in its directory.
    pool: Option<P>,
    in_use: InUse,
}

impl<P> Default for Slots<P> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<P: Clone> Slots<P> {
    /// The pool of a user with these limits, if there is one.
    pub(super) fn find(&mut self, uid: u32, limits: &CgroupLimits) -> Option<(P, InUse)> {
        let is_it =
            |slot: &Slot<P>| slot.uid == uid && slot.limits == *limits && slot.pool.is_some();
        let index = self.0.iter().position(is_it)?;
        let slot = self.0.remove(index);
        let found = slot.pool.clone().zip(Some(Arc::clone(&slot.in_use)));
        self.0.push(slot);
        found
    }

    /// Makes room for another pool of a user, who may have `max`. Pools without a live child are
    /// removed, those that were not used for longest first.
    ///
    /// The directory of a pool in which children have left processes remains, and counts until it
    /// is empty. So no user can fill the machine with cgroups by leaving processes in them.
    ///
    /// `clean` removes the directories in which nothing is left.
    pub(super) fn make_room(
        &mut self,
        uid: u32,
        max: usize,
        clean: impl Fn(),
    ) -> Result<(), Error> {
        if self.0.iter().any(|slot| slot.pool.is_none()) {
            clean();
            self.0
                .retain(|slot| slot.pool.is_some() || slot.path.exists());
        }
        loop {
            let of_user = self.0.iter().filter(|slot| slot.uid == uid).count();
            if of_user < max && self.0.len() < POOLS_MAX {
                return Ok(());
            }
            // A user removes pools of others only if the service has no room left.
            let may_remove = |slot: &Slot<P>| slot.uid == uid || of_user < max;
            let unused = self.0.iter().position(|slot| {
                slot.pool.is_some() && Arc::strong_count(&slot.in_use) == 1 && may_remove(slot)
            });
            let Some(index) = unused else {
                return Err(refuse(of_user >= max, max));
            };
            let mut slot = self.0.remove(index);
            slot.pool = None;
            if slot.path.exists() {
                self.0.insert(0, slot);
            }
        }
    }

    /// Adds a pool with its directory. To be called after [`make_room`](Self::make_room).
    pub(super) fn add(&mut self, uid: u32, limits: CgroupLimits, pool: P, path: PathBuf) -> InUse {
        let in_use = InUse::default();
        self.0.push(Slot {
            uid,
            limits,
            path,
            pool: Some(pool),
            in_use: Arc::clone(&in_use),
        });
        in_use
    }
}

fn refuse(is_of_user: bool, max: usize) -> Error {
    let whose = match is_of_user {
        true => format!("children of this user have {max} different cgroup limits"),
        false => format!("children of all users have {POOLS_MAX} different cgroup limits"),
    };
    let message = format!(
        "{whose}, the limit; use the same limits again, or wait until children and the processes that they have left have ended"
    );
    Error::new(Code::Exhausted, message)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    /// Stands for a pool: its drop removes its directory if it is empty.
    #[derive(Clone)]
    struct Pool {
        _directory: Arc<Directory>,
    }

    struct Directory(PathBuf);

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir(&self.0);
        }
    }

    struct Test {
        directory: TempDir,
        slots: Slots<Pool>,
        made: u32,
    }

    impl Test {
        fn new() -> Self {
            Self {
                directory: TempDir::new().expect("a directory can be created"),
                slots: Slots::default(),
                made: 0,
            }
        }

        /// As the service does it. Returns the use, and whether the pool is new.
        fn acquire(&mut self, uid: u32, count: u64, max: usize) -> Result<(InUse, bool), Code> {
            let limits = limits(count);
            if let Some((_, in_use)) = self.slots.find(uid, &limits) {
                return Ok((in_use, false));
            }
            let clean = || {
                for entry in fs::read_dir(self.directory.path()).into_iter().flatten() {
                    let _ = fs::remove_dir(entry.expect("it is readable").path());
                }
            };
            let room = self.slots.make_room(uid, max, clean);
            room.map_err(|error| error.code)?;
            self.made += 1;
            let path = self.directory.path().join(self.made.to_string());
            fs::create_dir(&path).expect("it is new");
            let pool = Pool {
                _directory: Arc::new(Directory(path.clone())),
            };
            Ok((self.slots.add(uid, limits, pool, path), true))
        }
    }

    fn limits(count: u64) -> CgroupLimits {
        CgroupLimits {
            processes: Some(count),
            ..CgroupLimits::default()
        }
    }

    #[test]
    fn a_pool_is_reused_and_unused_ones_make_room() {
        let mut test = Test::new();
        let (first, is_new) = test.acquire(7, 1, 2).expect("there is room");
        assert!(is_new && !test.acquire(7, 1, 2).expect("it exists").1);
        // Another user has a pool of its own.
        assert!(test.acquire(8, 1, 2).expect("there is room").1);
        let (second, _) = test.acquire(7, 2, 2).expect("there is room");
        assert_eq!(test.acquire(7, 3, 2).err(), Some(Code::Exhausted));
        drop(first);
        assert!(test.acquire(7, 3, 2).expect("one is not in use").1);
        assert!(!test.acquire(7, 2, 2).expect("it is in use").1);
        assert!(test.acquire(7, 1, 2).expect("one is not in use").1);
        drop(second);
    }

    #[test]
    fn a_pool_with_leftover_processes_counts_until_they_have_ended() {
        let mut test = Test::new();
        drop(test.acquire(7, 1, 1).expect("there is room"));
        // A directory with an entry stands for a cgroup with processes.
        let entry = test.directory.path().join("1/leaf");
        fs::create_dir(&entry).expect("it is new");
        assert_eq!(test.acquire(7, 2, 1).err(), Some(Code::Exhausted));
        // The pool was dropped, so this needs room as well.
        assert_eq!(test.acquire(7, 1, 1).err(), Some(Code::Exhausted));
        assert!(test.acquire(8, 1, 1).expect("it is another user").1);
        fs::remove_dir(&entry).expect("it exists");
        assert!(test.acquire(7, 2, 1).expect("it is empty now").1);
    }

    #[test]
    fn the_pools_of_all_users_are_bounded() {
        let mut test = Test::new();
        let max = POOLS_MAX as u32;
        let mut held: Vec<_> = (0..max)
            .map(|uid| test.acquire(uid, 1, 16).expect("there is room"))
            .collect();
        assert_eq!(test.acquire(max, 1, 16).err(), Some(Code::Exhausted));
        // Another user's pool makes room once it is not in use.
        held.pop();
        assert!(test.acquire(max, 1, 16).expect("there is room").1);
        assert_eq!(test.slots.0.len(), POOLS_MAX);
    }
}
