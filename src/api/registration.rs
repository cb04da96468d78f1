//! The registration of a process: from its pid or pidfd to its [`Watch`].
//!
//! The methods of `Watcher` make these calls, on the caller's thread, and so do the threads that
//! start commands.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use super::watch_permit::WatchPermit;
use crate::error::{SystemError, WatchError};
use crate::record::delivery_guard::DeliveryGuard;
use crate::record::{Ownership, Record, WatchFor};
use crate::ring_thread::command::Registered;
use crate::shared::Shared;
use crate::sync::wait_graph;
use crate::sys::{self, WaitResult, WaitTarget};
use crate::{Pid, Watch};

/// How long a caller waits for the ring thread to process what was sent to it. The ring thread may
/// be in user code (a callback without workers, or a waker) that waits for the caller.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(50);

impl Shared {
    /// Retries once if no descriptor is free, after the ring thread has closed those that were sent
    /// to it.
    pub(super) fn retry_after_flush<T>(
        &self,
        attempt: impl Fn() -> Result<T, WatchError>,
    ) -> Result<T, WatchError> {
        match attempt() {
            Err(WatchError::NoDescriptors(_)) => {
                self.flush();
                attempt()
            }
            other => other,
        }
    }

    /// Waits until the ring thread has processed the commands that were sent to it.
    pub(super) fn flush(&self) {
        // Refused on the ring thread, and in a callback that the ring thread waits for: there the
        // commands are processed after this call has returned.
        if let Some(_waiting) = wait_graph::wait_for(self.ring_thread) {
            self.mailbox.flush(FLUSH_TIMEOUT);
        }
    }

    /// Registers a process by its pidfd. `ownership`: `None` if it is not known yet.
    pub(super) fn register(
        self: &Arc<Self>,
        permit: WatchPermit<'_>,
        pid: Pid,
        pidfd: OwnedFd,
        ownership: Option<Ownership>,
        watch_for: WatchFor,
    ) -> Result<Watch, WatchError> {
        let mut ended = false;
        let ownership = match ownership {
            Some(ownership) => ownership,
            None => match sys::waitid(WaitTarget::PeekPidfd(pidfd.as_fd())) {
                Ok(WaitResult::Ended(..)) => {
                    ended = true;
                    Ownership::Child
                }
                Ok(WaitResult::Pending) => Ownership::Child,
                Ok(WaitResult::NoChild) => Ownership::NotChild,
                Err(source) => {
                    let call = "waitid";
                    return Err(SystemError { call, source }.into());
                }
            },
        };
        let registered = match ended && watch_for == WatchFor::Exited {
            true => Registered::Ended(pidfd),
            false => Registered::Pidfd(pidfd),
        };
        // Before the ring thread is woken up, which takes the lock of the mailbox at once.
        if self.mailbox.is_over_descriptor_budget() {
            self.flush();
        }
        self.submit(permit, Record::new(pid, ownership, watch_for), registered)
    }

    /// Sends the record of a new watch to the ring thread.
    pub(super) fn submit(
        self: &Arc<Self>,
        permit: WatchPermit<'_>,
        record: Record,
        registered: Registered,
    ) -> Result<Watch, WatchError> {
        let record = Arc::new(record);
        let guard = DeliveryGuard::new(Arc::clone(&record));
        let sent = self.mailbox.watch(guard, registered);
        sent.map_err(|guard| {
            // The caller gets the error and keeps the child.
            guard.done();
            self.closed_reason()
        })?;
        permit.forget();
        Ok(Watch::new(Arc::clone(self), record))
    }
}
