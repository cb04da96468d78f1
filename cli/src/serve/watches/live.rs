//! A live watch.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::info::WatchInfo;

/// A watch whose process has no record yet.
#[derive(Debug)]
pub(crate) struct LiveWatch {
    pub(crate) info: WatchInfo,
    /// The process is a child of the service, to be reaped once its record is committed.
    pub(crate) is_child: bool,
    /// A killed service left the process behind. Its new parent may never reap it.
    pub(crate) is_orphan: bool,
    timed_out: AtomicBool,
    /// The registration with the library, kept so that it can be cancelled.
    registration: Mutex<Option<(exitring::Watch, exitring::CallbackId)>>,
}

impl LiveWatch {
    pub(crate) fn new(info: WatchInfo, is_child: bool, is_orphan: bool) -> Arc<Self> {
        Arc::new(Self {
            info,
            is_child,
            is_orphan,
            timed_out: AtomicBool::new(false),
            registration: Mutex::new(None),
        })
    }

    pub(crate) fn timed_out(&self) -> bool {
        self.timed_out.load(Ordering::Acquire)
    }

    pub(crate) fn set_timed_out(&self, timed_out: bool) {
        self.timed_out.store(timed_out, Ordering::Release);
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
