//! The state that all connections share.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use exitring::Watcher;
use exitring_protocol::{Counts, Error, Limits};
use rustix::process::Rlimit;
use tokio::sync::{RwLockReadGuard, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::errors::stopping;
use super::quotas::Quotas;
use crate::serve::cgroups::Pools;
use crate::serve::metrics::Metrics;
use crate::serve::store::{Reader, RecentRecords, Store};
use crate::serve::threads::closer::Closer;
use crate::serve::threads::spawner::Spawner;
use crate::serve::watches::{Deadlines, Registry};

pub(crate) struct Service {
    /// The name of the state directory.
    pub(crate) instance: String,
    pub(crate) limits: Limits,
    /// The user that runs the service: root serves all users, any other user only itself.
    pub(crate) uid: u32,
    /// The original `RLIMIT_NOFILE`, for children.
    pub(crate) descriptor_limit: Rlimit,
    pub(crate) cgroups: Pools,
    /// `None` once it has stopped.
    pub(crate) watcher: RwLock<Option<Watcher>>,
    pub(crate) store: Store,
    pub(crate) registry: Arc<Registry>,
    pub(crate) recent: Arc<RecentRecords>,
    pub(crate) reader: Reader,
    /// The permit to use the reader.
    pub(crate) reader_permit: Semaphore,
    /// The sequence number of the last committed record.
    pub(crate) committed: watch::Receiver<u64>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) deadlines: Arc<Deadlines>,
    /// Whether requests are accepted. Read-locked during a request, so that a shutdown waits for
    /// it.
    pub(crate) accepting: tokio::sync::RwLock<bool>,
    pub(crate) spawner: Spawner,
    /// Limits how many processes are started at a time.
    pub(crate) spawn_permits: Semaphore,
    /// The same for one user.
    pub(crate) spawn_quotas: Quotas,
    /// Limits the connections of one user.
    pub(crate) client_quotas: Quotas,
    pub(crate) closer: Closer,
    /// Ends all connections.
    pub(crate) shutdown: CancellationToken,
    /// The backend of the watcher.
    pub(crate) backend: Mutex<String>,
}

impl Service {
    /// A guard for the duration of a request that changes something.
    pub(crate) async fn begin_request(&self) -> Result<RwLockReadGuard<'_, bool>, Error> {
        let accepting = self.accepting.read().await;
        match *accepting {
            true => Ok(accepting),
            false => Err(stopping()),
        }
    }

    /// The answer to `stats`.
    pub(crate) fn counts(&self) -> Counts {
        let metrics = &self.metrics;
        let whole = |number: i64| u64::try_from(number).unwrap_or(0);
        Counts {
            clients: whole(metrics.clients.get()),
            watched: self.registry.len() as u64,
            records: whole(metrics.records.get()),
            last_seq: *self.committed.borrow(),
            exits: metrics.exits.get(),
            unknown: metrics.unknown.get(),
            commits: metrics.commits.get(),
            dropped: metrics.dropped.get(),
            pending: whole(metrics.pending.get()),
            storage_error: self.store.write_error(),
            backend: self
                .backend
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        }
    }

    /// The metrics, as OpenMetrics text.
    pub(crate) fn metrics_text(&self) -> String {
        let watcher = self.watcher.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(stats) = watcher.as_ref().map(Watcher::stats) {
            self.metrics.watcher_watched.set(stats.watched as i64);
            self.metrics.watcher_armed.set(stats.armed as i64);
            // The library's number never decreases.
            let delivered = self.metrics.watcher_delivered.inner();
            delivered.store(stats.delivered, Ordering::Relaxed);
        }
        drop(watcher);
        self.metrics.watched.set(self.registry.len() as i64);
        self.metrics.last_seq.set(*self.committed.borrow());
        self.metrics.text()
    }
}
