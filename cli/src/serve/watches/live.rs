//! A live watch.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use exitring_protocol::CgroupUsage;

use super::info::WatchInfo;
use crate::serve::cgroups::Leaf;
use crate::serve::sys::clock::monotonic_ms;

/// A watch whose process has no record yet.
#[derive(Debug)]
pub(crate) struct LiveWatch {
    pub(crate) info: WatchInfo,
    /// The process is a child of the service, to be reaped once its record is committed.
    pub(crate) is_child: bool,
    /// A killed service left the process behind. Its new parent may never reap it.
    pub(crate) is_orphan: bool,
    timed_out: AtomicBool,
    /// The cgroup of the process. It returns to its pool when nothing refers to the watch.
    leaf: Option<Leaf>,
    /// The registration with the library, kept so that it can be cancelled.
    registration: Mutex<Option<(exitring::Watch, exitring::CallbackId)>>,
}

impl LiveWatch {
    pub(crate) fn new(
        info: WatchInfo,
        is_child: bool,
        is_orphan: bool,
        leaf: Option<Leaf>,
    ) -> Arc<Self> {
        let timed_out = info.terminated_ms.is_some();
        Arc::new(Self {
            info,
            is_child,
            is_orphan,
            timed_out: AtomicBool::new(timed_out),
            leaf,
            registration: Mutex::new(None),
        })
    }

    pub(crate) fn timed_out(&self) -> bool {
        self.timed_out.load(Ordering::Acquire)
    }

    pub(crate) fn set_timed_out(&self, timed_out: bool) {
        self.timed_out.store(timed_out, Ordering::Release);
    }

    pub(crate) fn has_leaf(&self) -> bool {
        self.leaf.is_some()
    }

    /// Kills all processes of the cgroup, if the process has one.
    pub(crate) fn kill_leaf(&self) -> io::Result<()> {
        self.leaf.as_ref().map_or(Ok(()), Leaf::kill)
    }

    /// To be called when the process has ended. Returns what its cgroup has counted. If the timeout
    /// has passed, this kills what the process has left there: no part of it outlives the timeout.
    ///
    /// This holds also for a timeout that passed while the service was down. So the clock counts,
    /// and not only the signal.
    pub(crate) fn end_leaf(&self) -> Option<CgroupUsage> {
        let leaf = self.leaf.as_ref()?;
        let report = leaf.report();
        let is_late = || {
            let deadline = self.info.deadline_ms;
            deadline.is_some_and(|deadline| deadline <= monotonic_ms())
        };
        // Without a report there may be processes as well.
        let is_empty = report.is_some_and(|report| report.leftover == 0);
        if !is_empty
            && (self.timed_out() || is_late())
            && let Err(error) = leaf.kill()
        {
            tracing::warn!(watch = self.info.id, %error, "what a process left in its cgroup at its timeout could not be killed");
        }
        report
    }

    pub(crate) fn set_registration(&self, watch: exitring::Watch, callback: exitring::CallbackId) {
        let mut registration = self
            .registration
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *registration = Some((watch, callback));
    }

    /// Cancels the registration, so that the library keeps nothing of it until the process ends.
    pub(crate) fn cancel(&self) {
        let registration = self
            .registration
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some((watch, callback)) = registration {
            // The callback has run, or never will.
            let _ = watch.cancel(callback);
        }
    }

    /// As a `list` reports it.
    pub(super) fn describe(&self) -> exitring_protocol::Live {
        let info = &self.info;
        exitring_protocol::Live {
            watch: info.id,
            pid: info.pid,
            tag: info.tag.clone(),
            client: info.client.clone(),
            uid: info.uid,
            spawned: info.spawned,
            until: info.until,
            began_ms: info.began_ms,
        }
    }
}
