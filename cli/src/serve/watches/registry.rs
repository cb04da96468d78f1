//! All live watches, and the permits for more.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use exitring_protocol::{Code, Error, List, Page};

use super::live::LiveWatch;
use super::scope::Scope;

/// How many live watches a `list` returns at most.
const PAGE_MAX: usize = 500;

/// All live watches. A permit limits them, in total and per user.
pub(crate) struct Registry {
    inner: Mutex<Inner>,
    max: usize,
    max_per_user: usize,
}

struct Inner {
    live: BTreeMap<u64, Arc<LiveWatch>>,
    next_id: u64,
    /// Permits in use, by user: of live watches, and of watches that are about to begin.
    permits: HashMap<u32, usize>,
    permits_total: usize,
}

impl Registry {
    /// `next_id`: the first number that no watch ever had.
    pub(crate) fn new(next_id: u64, max: usize, max_per_user: usize) -> Self {
        Self {
            inner: Mutex::new(Inner {
                live: BTreeMap::new(),
                next_id,
                permits: HashMap::new(),
                permits_total: 0,
            }),
            max,
            max_per_user,
        }
    }

    /// Takes a permit for one more watch of this user.
    pub(crate) fn acquire(self: &Arc<Self>, uid: u32) -> Result<WatchPermit, Error> {
        let mut inner = self.lock();
        let refuse = |whose: &str, max: usize| {
            let message =
                format!("{whose} has {max} live watches, the limit; wait for some to end");
            Err(Error::new(Code::TooManyWatches, message))
        };
        if inner.permits_total >= self.max {
            return refuse("the service", self.max);
        }
        if inner.permits.get(&uid).copied().unwrap_or(0) >= self.max_per_user {
            return refuse("the user", self.max_per_user);
        }
        let id = inner.next_id;
        inner.next_id += 1;
        inner.add_permit(uid);
        Ok(WatchPermit {
            registry: Arc::clone(self),
            uid,
            id,
            used: false,
        })
    }

    /// Adds a watch from before the restart, whatever the limits are now.
    pub(crate) fn restore(&self, live: Arc<LiveWatch>) {
        let mut inner = self.lock();
        inner.add_permit(live.info.uid);
        inner.live.insert(live.info.id, live);
    }

    /// Removes a watch that is over, and releases its permit.
    pub(crate) fn remove(&self, id: u64) -> Option<Arc<LiveWatch>> {
        let mut inner = self.lock();
        let live = inner.live.remove(&id)?;
        inner.release_permit(live.info.uid);
        Some(live)
    }

    pub(crate) fn get(&self, id: u64, scope: &Scope) -> Result<Arc<LiveWatch>, Error> {
        let live = self.lock().live.get(&id).cloned();
        live.filter(|live| scope.has(live.info.uid, &live.info.client))
            .ok_or_else(|| {
                let message =
                    format!("this client has no live watch {id}: it ended, or never existed");
                Error::new(Code::NoSuchWatch, message)
            })
    }

    pub(crate) fn list(&self, list: List, scope: &Scope) -> Page {
        let limit = usize::from(list.limit.unwrap_or(PAGE_MAX as u16)).clamp(1, PAGE_MAX);
        let inner = self.lock();
        let mut all = inner
            .live
            .range(list.after.saturating_add(1)..)
            .map(|(_, live)| live)
            .filter(|live| scope.has(live.info.uid, &live.info.client));
        let watches = all.by_ref().take(limit).map(|live| live.describe());
        Page {
            watches: watches.collect(),
            more: all.next().is_some(),
        }
    }

    pub(crate) fn all(&self) -> Vec<Arc<LiveWatch>> {
        self.lock().live.values().cloned().collect()
    }

    pub(crate) fn has(&self, id: u64) -> bool {
        self.lock().live.contains_key(&id)
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().live.len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn add_permit(&mut self, uid: u32) {
        self.permits_total += 1;
        *self.permits.entry(uid).or_default() += 1;
    }

    fn release_permit(&mut self, uid: u32) {
        self.permits_total -= 1;
        if let Some(permits) = self.permits.get_mut(&uid) {
            *permits -= 1;
            if *permits == 0 {
                self.permits.remove(&uid);
            }
        }
    }
}

/// A permit for a watch that is about to begin. Dropping it releases the permit.
pub(crate) struct WatchPermit {
    registry: Arc<Registry>,
    uid: u32,
    pub(crate) id: u64,
    used: bool,
}

impl WatchPermit {
    /// The watch has begun: it keeps the permit until it is removed.
    pub(crate) fn register(mut self, live: Arc<LiveWatch>) {
        self.used = true;
        self.registry.lock().live.insert(self.id, live);
    }
}

impl Drop for WatchPermit {
    fn drop(&mut self) {
        if !self.used {
            self.registry.lock().release_permit(self.uid);
        }
    }
}

#[cfg(test)]
mod tests {
    use exitring_protocol::WatchFor;

    use super::*;
    use crate::serve::watches::info::WatchInfo;

    fn info(id: u64, uid: u32) -> WatchInfo {
        WatchInfo {
            id,
            uid,
            client: String::new(),
            tag: String::new(),
            pid: 1,
            start_ticks: 0,
            inode: None,
            spawned: false,
            until: WatchFor::Exited,
            began_ms: 0,
            deadline_ms: None,
            grace_ms: 0,
            terminated_ms: None,
            leaf: None,
        }
    }

    #[test]
    fn permits_are_limited_per_user_and_in_total_and_are_released() {
        let registry = Arc::new(Registry::new(1, 3, 2));
        let first = registry.acquire(7).expect("a permit is left");
        let second = registry.acquire(7).expect("a permit is left");
        let code = |uid| registry.acquire(uid).err().map(|error| error.code);
        assert_eq!(code(7), Some(Code::TooManyWatches));
        let third = registry.acquire(8).expect("a permit is left");
        assert_eq!(code(9), Some(Code::TooManyWatches));
        drop(third);
        let id = first.id;
        first.register(LiveWatch::new(info(id, 7), false, false, None));
        drop(second);
        assert_eq!(code(7), None);
        assert_eq!(registry.len(), 1);
        assert!(registry.remove(id).is_some() && registry.remove(id).is_none());
        assert_eq!(registry.lock().permits_total, 0);
        assert!(registry.lock().permits.is_empty());
    }

    #[test]
    fn watches_of_other_users_are_neither_found_nor_listed() {
        let registry = Arc::new(Registry::new(1, 10, 10));
        for uid in [7, 8, 7] {
            let permit = registry.acquire(uid).expect("a permit is left");
            let id = permit.id;
            permit.register(LiveWatch::new(info(id, uid), false, false, None));
        }
        let of = |uid| Scope { uid, client: None };
        assert!(registry.get(2, &of(Some(7))).is_err() && registry.get(2, &of(None)).is_ok());
        let list = |after, limit, uid| registry.list(List { after, limit }, &of(uid));
        let ids = |page: &Page| {
            page.watches
                .iter()
                .map(|live| live.watch)
                .collect::<Vec<_>>()
        };
        let page = list(0, Some(1), Some(7));
        assert_eq!((ids(&page), page.more), (vec![1], true));
        let page = list(1, None, Some(7));
        assert_eq!((ids(&page), page.more), (vec![3], false));
        assert_eq!(ids(&list(0, None, None)), [1, 2, 3]);
        assert!(list(u64::MAX, None, None).watches.is_empty());
    }
}
