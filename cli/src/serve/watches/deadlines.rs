//! The timeouts of live watches.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::live::LiveWatch;
use crate::serve::sys::clock::monotonic_ms;

/// A queue of live watches by deadline. One timer serves all of them.
#[derive(Default)]
pub(crate) struct Deadlines {
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Default)]
struct Inner {
    queue: BTreeSet<(Instant, u64)>,
    by_watch: HashMap<u64, (Instant, Arc<LiveWatch>)>,
}

impl Deadlines {
    /// Adds a watch at its own deadline, if it has one. If that has passed and SIGTERM was sent, at
    /// the end of its grace.
    pub(crate) fn add(&self, live: &Arc<LiveWatch>) {
        let info = &live.info;
        let kill_at = |terminated_ms: u64| terminated_ms.saturating_add(info.grace_ms);
        if let Some(at_ms) = info.terminated_ms.map(kill_at).or(info.deadline_ms) {
            self.add_after(live, at_ms.saturating_sub(monotonic_ms()));
        }
    }

    pub(crate) fn add_after(&self, live: &Arc<LiveWatch>, ms: u64) {
        // A time past the end of the clock never comes.
        let Some(at) = Instant::now().checked_add(Duration::from_millis(ms)) else {
            return;
        };
        let id = live.info.id;
        let mut inner = self.lock();
        inner.queue.insert((at, id));
        inner.by_watch.insert(id, (at, Arc::clone(live)));
        drop(inner);
        self.changed.notify_one();
    }

    /// Removes a watch that is over.
    pub(crate) fn remove(&self, id: u64) {
        let mut inner = self.lock();
        if let Some((at, _)) = inner.by_watch.remove(&id) {
            inner.queue.remove(&(at, id));
        }
    }

    /// Waits for the next deadline, and removes its watch from the queue.
    pub(crate) async fn next(&self) -> Arc<LiveWatch> {
        loop {
            match self.take_due() {
                Ok(live) => return live,
                Err(Some(at)) => tokio::select! {
                    () = tokio::time::sleep_until(at.into()) => {}
                    () = self.changed.notified() => {}
                },
                Err(None) => self.changed.notified().await,
            }
        }
    }

    /// A watch whose deadline has passed, or else the time of the next deadline.
    fn take_due(&self) -> Result<Arc<LiveWatch>, Option<Instant>> {
        let mut inner = self.lock();
        let Some(&(at, id)) = inner.queue.first() else {
            return Err(None);
        };
        if at > Instant::now() {
            return Err(Some(at));
        }
        inner.queue.pop_first();
        match inner.by_watch.remove(&id) {
            Some((_, live)) => Ok(live),
            None => Err(Some(at)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
