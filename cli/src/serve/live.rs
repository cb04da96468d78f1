//! Live watches: what is known of each, and all of them.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use exitring_protocol::{Code, Error, List, Moment, Page};

use super::store::Scope;

/// How many live watches a `list` gives at most.
const PAGE_MAX: usize = 500;

/// What is written down of a watch when it begins.
#[derive(Clone, Debug)]
pub(crate) struct Birth {
    pub(crate) id: u64,
    pub(crate) uid: u32,
    pub(crate) client: String,
    pub(crate) tag: String,
    pub(crate) pid: i32,
    /// When the process started, in the clock ticks of `/proc/PID/stat`: with the pid it is an identity.
    pub(crate) start_ticks: u64,
    /// The inode of its pidfds, never given twice in a boot, since Linux 6.9.
    pub(crate) inode: Option<u64>,
    pub(crate) spawned: bool,
    pub(crate) until: Moment,
    pub(crate) began_ms: u64,
    /// When it is to be told to end, by the monotonic clock of its boot.
    pub(crate) deadline_ms: Option<u64>,
    pub(crate) grace_ms: u64,
}

/// A live watch.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) birth: Birth,
    /// It is a child of ours, to be reaped once its record is committed.
    pub(crate) own: bool,
    /// Nobody has reaped it when it was last looked at: of those that a killed service left behind.
    pub(crate) orphan: bool,
    timed_out: AtomicBool,
    /// The watch itself, once it has begun. Kept to be taken back.
    handle: Mutex<Option<(exitring::Watch, exitring::CallbackId)>>,
}

impl Live {
    pub(crate) fn new(birth: Birth, own: bool, orphan: bool) -> Arc<Self> {
        Arc::new(Self {
            birth,
            own,
            orphan,
            timed_out: AtomicBool::new(false),
            handle: Mutex::new(None),
        })
    }

    pub(crate) fn timed_out(&self) -> bool {
        self.timed_out.load(Ordering::Acquire)
    }

    pub(crate) fn set_timed_out(&self, timed_out: bool) {
        self.timed_out.store(timed_out, Ordering::Release);
    }

    pub(crate) fn keep(&self, watch: exitring::Watch, callback: exitring::CallbackId) {
        *self.handle.lock().unwrap_or_else(PoisonError::into_inner) = Some((watch, callback));
    }

    /// Takes the watch back, so that nothing of it is left before the process ends.
    pub(crate) fn let_go(&self) {
        let handle = self
            .handle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some((watch, callback)) = handle {
            // Has run or never will: either way it is over.
            let _ = watch.cancel(callback);
        }
    }

    fn describe(&self) -> exitring_protocol::Live {
        let birth = &self.birth;
        exitring_protocol::Live {
            watch: birth.id,
            pid: birth.pid,
            tag: birth.tag.clone(),
            client: birth.client.clone(),
            uid: birth.uid,
            spawned: birth.spawned,
            until: birth.until,
            began_ms: birth.began_ms,
        }
    }
}

/// All live watches, and places for more.
pub(crate) struct Registry {
    inner: Mutex<Inner>,
    max: usize,
    max_per_user: usize,
}

struct Inner {
    live: BTreeMap<u64, Arc<Live>>,
    next_id: u64,
    /// Places taken, by user: of live watches and of those about to begin.
    taken: HashMap<u32, usize>,
    all_taken: usize,
}

impl Registry {
    /// `next_id`: the first number that was never given.
    pub(crate) fn new(next_id: u64, max: usize, max_per_user: usize) -> Self {
        Self {
            inner: Mutex::new(Inner {
                live: BTreeMap::new(),
                next_id,
                taken: HashMap::new(),
                all_taken: 0,
            }),
            max,
            max_per_user,
        }
    }

    /// A place for one more of this user's, and its number.
    pub(crate) fn reserve(self: &Arc<Self>, uid: u32) -> Result<Place, Error> {
        let mut inner = self.lock();
        let refuse = |whose: &str, max: usize| {
            let message =
                format!("{whose} has {max} live watches, as many as may be; wait for some to end");
            Err(Error::new(Code::TooManyWatches, message))
        };
        if inner.all_taken >= self.max {
            return refuse("the service", self.max);
        }
        if inner.taken.get(&uid).copied().unwrap_or(0) >= self.max_per_user {
            return refuse("the user", self.max_per_user);
        }
        let id = inner.next_id;
        inner.next_id += 1;
        inner.take(uid);
        Ok(Place {
            registry: Arc::clone(self),
            uid,
            id,
            used: false,
        })
    }

    /// One from before the restart.
    pub(crate) fn restore(&self, live: Arc<Live>) {
        let mut inner = self.lock();
        inner.take(live.birth.uid);
        inner.live.insert(live.birth.id, live);
    }

    /// When it is over.
    pub(crate) fn remove(&self, id: u64) -> Option<Arc<Live>> {
        let mut inner = self.lock();
        let live = inner.live.remove(&id)?;
        inner.give_back(live.birth.uid);
        Some(live)
    }

    pub(crate) fn get(&self, id: u64, scope: &Scope) -> Result<Arc<Live>, Error> {
        let live = self.lock().live.get(&id).cloned();
        live.filter(|live| scope.has(live.birth.uid, &live.birth.client))
            .ok_or_else(|| {
                let message =
                    format!("there is no live watch {id} of yours: it ended, or never was");
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
            .filter(|live| scope.has(live.birth.uid, &live.birth.client));
        let watches = all.by_ref().take(limit).map(|live| live.describe());
        Page {
            watches: watches.collect(),
            more: all.next().is_some(),
        }
    }

    pub(crate) fn all(&self) -> Vec<Arc<Live>> {
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
    fn take(&mut self, uid: u32) {
        self.all_taken += 1;
        *self.taken.entry(uid).or_default() += 1;
    }

    fn give_back(&mut self, uid: u32) {
        self.all_taken -= 1;
        if let Some(taken) = self.taken.get_mut(&uid) {
            *taken -= 1;
            if *taken == 0 {
                self.taken.remove(&uid);
            }
        }
    }
}

/// A place for a watch that is about to begin; given back if nothing comes of it.
pub(crate) struct Place {
    registry: Arc<Registry>,
    uid: u32,
    pub(crate) id: u64,
    used: bool,
}

impl Place {
    /// It has begun.
    pub(crate) fn fill(mut self, live: Arc<Live>) {
        self.used = true;
        self.registry.lock().live.insert(self.id, live);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.used {
            self.registry.lock().give_back(self.uid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn birth(id: u64, uid: u32) -> Birth {
        Birth {
            id,
            uid,
            client: String::new(),
            tag: String::new(),
            pid: 1,
            start_ticks: 0,
            inode: None,
            spawned: false,
            until: Moment::Exited,
            began_ms: 0,
            deadline_ms: None,
            grace_ms: 0,
        }
    }

    #[test]
    fn places_are_bounded_for_each_user_and_for_all_and_come_back() {
        let registry = Arc::new(Registry::new(1, 3, 2));
        let first = registry.reserve(7).expect("there is room");
        let second = registry.reserve(7).expect("there is room");
        let code = |uid| registry.reserve(uid).err().map(|error| error.code);
        assert_eq!(code(7), Some(Code::TooManyWatches));
        let third = registry.reserve(8).expect("there is room");
        assert_eq!(code(9), Some(Code::TooManyWatches));
        drop(third);
        let id = first.id;
        first.fill(Live::new(birth(id, 7), false, false));
        drop(second);
        assert_eq!(code(7), None);
        assert_eq!(registry.len(), 1);
        assert!(registry.remove(id).is_some() && registry.remove(id).is_none());
        assert_eq!(registry.lock().all_taken, 0);
        assert!(registry.lock().taken.is_empty());
    }

    #[test]
    fn others_watches_are_neither_found_nor_listed() {
        let registry = Arc::new(Registry::new(1, 10, 10));
        for uid in [7, 8, 7] {
            let place = registry.reserve(uid).expect("there is room");
            let id = place.id;
            place.fill(Live::new(birth(id, uid), false, false));
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
