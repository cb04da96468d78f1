//! The watcher: its threads, and the registration of processes.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::pidfd;
use super::watch_permit::WatchPermit;
use crate::error::{Closed, SystemError, WatchError};
use crate::record::delivery_guard::DeliveryGuard;
use crate::record::{Ownership, Record, WatchFor};
use crate::ring_thread::command::Registered;
use crate::shared::Shared;
use crate::sync::wait_graph::{self, Node};
use crate::sys::{self, WaitResult, WaitTarget};
use crate::{Pid, Stats, Watch};

/// Watches process exits through one io_uring, or through the best other
/// [`Backend`](crate::Backend) that the process may use.
///
/// A watcher owns the ring thread, which waits for exits, and the worker threads, which run
/// callbacks. Share it by reference or in an [`Arc`]. Every method can be called from any thread,
/// including from callbacks, and none blocks on a callback.
///
/// # Drop
///
/// The drop ends the threads. It waits for callbacks that are running and discards callbacks that
/// have not started; every thread that waits for an exit gets [`Closed::Dropped`]. No callback runs
/// after the drop has returned. A callback may drop the watcher. The drop then waits for the other
/// callbacks only, except those that wait for this callback themselves.
///
/// # Forked children
///
/// In a forked child (without exec), the copy of a watcher does nothing: calls return
/// [`Closed::ForkedChild`], and the drop has no effect. This holds however the child was forked,
/// and whatever pid it has.
///
/// The exception is a child that shares the memory of the parent (`vfork(2)`, or `clone(2)` with
/// `CLONE_VM`) and was not made by [`vfork_watchable`](Self::vfork_watchable). It cannot be told
/// from the parent, and may only execute a program or end.
///
/// Where the kernel cannot zero a page in forked children (`MADV_WIPEONFORK`, Linux 4.14,
/// `madvise(2)`), a child is recognised by its pid, and by a handler that the C library's `fork`
/// calls.
///
/// ```
/// use std::process::Command;
/// use exitring::Watcher;
///
/// let watcher = Watcher::new()?;
/// let mut child = Command::new("true").spawn()?;
/// let watch = watcher.watch(child.id())?;
/// assert!(watch.wait()?.success());
/// child.wait()?; // a watch does not reap
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "dropping a watcher ends it"]
pub struct Watcher {
    pub(crate) shared: Arc<Shared>,
    threads: Threads,
}

/// The threads of a watcher, each with its node in the wait graph.
pub(crate) type Threads = Vec<(JoinHandle<()>, Node)>;

impl Watcher {
    pub(crate) fn from_parts(shared: Arc<Shared>, threads: Threads) -> Self {
        Self { shared, threads }
    }

    /// Watches the process with this pid until it ends. The process may be a child or not, and may
    /// be running or a zombie.
    ///
    /// The pid is a [`Pid`] or a number of the standard library: `watcher.watch(child.id())`. When
    /// the call returns, the watch is bound to this process, even if the pid is reused later. The
    /// watcher only queries the status; the process is reaped by its parent as before. A process
    /// can have any number of watches.
    ///
    /// The call makes two system calls (`pidfd_open(2)`, and `waitid(2)` with `P_PIDFD`, Linux 5.4)
    /// and wakes the ring thread if that sleeps. It waits for the ring thread (at most twice, for
    /// 50 ms each) only if no descriptor is free, or if so many registrations are pending (256, or an eighth
    /// of `RLIMIT_NOFILE`) that their pidfds could exhaust the descriptors of the process.
    ///
    /// # Errors
    ///
    /// [`WatchError::InvalidPid`] for zero and negative numbers, [`WatchError::NoSuchProcess`] if
    /// the process was reaped or never existed, [`WatchError::Thread`] for the id of a thread.
    /// Other variants if a limit is reached or the watcher is closed.
    pub fn watch<P>(&self, pid: P) -> Result<Watch, WatchError>
    where
        P: TryInto<Pid>,
        P::Error: Into<WatchError>,
    {
        self.watch_pid(pid.try_into().map_err(Into::into)?, WatchFor::Exited)
    }

    /// Watches a process, as [`watch`](Self::watch) does, until its parent has reaped it.
    ///
    /// From Linux 6.15 on, the status of a process that is not a child of this process is
    /// available once it was reaped; before, the outcome is
    /// [`Unknown::NotAChild`](crate::Unknown::NotAChild). A zombie is not reported. The exit has no
    /// resource usage.
    ///
    /// # Errors
    ///
    /// Those of [`watch`](Self::watch), and [`WatchError::Unsupported`] before Linux 6.9, where
    /// pidfds do not report the reap (`POLLHUP`, kernel commit 43f0df54c96f).
    pub fn watch_reaped<P>(&self, pid: P) -> Result<Watch, WatchError>
    where
        P: TryInto<Pid>,
        P::Error: Into<WatchError>,
    {
        self.watch_pid(pid.try_into().map_err(Into::into)?, WatchFor::Reaped)
    }

    /// Watches the process behind a pidfd until it ends.
    ///
    /// The watcher takes the descriptor and closes it. With a pidfd from `clone3(2)`
    /// (`CLONE_PIDFD`) or from another process, this is the way to register a process without a
    /// race against the reuse of its pid. Blocks no longer than [`watch`](Self::watch) does.
    ///
    /// # Errors
    ///
    /// [`WatchError::NotAPidfd`] for other descriptors, [`WatchError::ThreadPidfd`] for the pidfd
    /// of a thread, [`WatchError::Reaped`] if the process was reaped and its pid is no longer
    /// known. Other variants if a limit is reached or the watcher is closed.
    pub fn watch_pidfd(&self, pidfd: OwnedFd) -> Result<Watch, WatchError> {
        self.shared.check_process()?;
        self.shared.check_pidfds()?;
        let permit = WatchPermit::acquire(&self.shared)?;
        let pid = pidfd::pid_of(pidfd.as_fd())?;
        self.register(permit, pid, pidfd, None, WatchFor::Exited)
    }

    /// Checks whether the watcher accepts calls. Never blocks, and can be called in a forked child.
    ///
    /// # Errors
    ///
    /// [`Closed`] with the reason that every other call would return.
    pub fn check(&self) -> Result<(), Closed> {
        self.shared.check_process()?;
        self.shared.check_open()
    }

    /// Returns a snapshot of the counters and gauges. All are zero in a forked child.
    ///
    /// Takes two locks that are held for a short time only.
    pub fn stats(&self) -> Stats {
        match self.shared.check_process() {
            Ok(()) => self.shared.stats(),
            Err(_) => Stats::default(),
        }
    }

    #[cfg(test)]
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    fn watch_pid(&self, pid: Pid, watch_for: WatchFor) -> Result<Watch, WatchError> {
        self.shared.check_process()?;
        self.shared.check_pidfds()?;
        let permit = WatchPermit::acquire(&self.shared)?;
        let pidfd = self.retry_after_flush(|| {
            sys::pidfd_open(pid).map_err(|error| WatchError::from_pidfd_open(pid, error))
        })?;
        // Linux 6.9 brought both pidfs and pidfds that report the reap.
        if watch_for == WatchFor::Reaped && sys::pidfs_inode(pidfd.as_fd()).is_none() {
            return Err(WatchError::Unsupported);
        }
        self.register(permit, pid, pidfd, None, watch_for)
    }

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
        if let Some(_waiting) = wait_graph::wait_for(self.shared.ring_thread) {
            self.shared.mailbox.flush(FLUSH_TIMEOUT);
        }
    }

    /// Registers a process by its pidfd. `ownership`: `None` if it is not known yet.
    pub(super) fn register(
        &self,
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
        let watch = self.submit(permit, pid, ownership, watch_for, registered)?;
        if self.shared.mailbox.is_over_descriptor_budget() {
            self.flush();
        }
        Ok(watch)
    }

    /// Makes the record of a watch, and sends it to the ring thread.
    pub(super) fn submit(
        &self,
        permit: WatchPermit<'_>,
        pid: Pid,
        ownership: Ownership,
        watch_for: WatchFor,
        registered: Registered,
    ) -> Result<Watch, WatchError> {
        let record = Arc::new(Record::new(pid, ownership, watch_for));
        let guard = DeliveryGuard::new(Arc::clone(&record));
        let sent = self.shared.mailbox.watch(guard, registered);
        sent.map_err(|guard| {
            // The caller gets the error and keeps the child.
            guard.done();
            self.shared.closed_reason()
        })?;
        permit.forget();
        Ok(Watch::new(Arc::clone(&self.shared), record))
    }
}

/// The handles of the threads are not `UnwindSafe`. They are only joined, once.
impl UnwindSafe for Watcher {}
impl RefUnwindSafe for Watcher {}

/// How long a caller waits for the ring thread to process what was sent to it. The ring thread may
/// be in user code (a callback without workers, or a waker) that waits for the caller.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(50);

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher").finish_non_exhaustive()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let threads = std::mem::take(&mut self.threads);
        if self.shared.check_process() == Err(Closed::ForkedChild) {
            // The threads belong to the parent, and locks may stay locked forever.
            std::mem::forget(threads);
            return;
        }
        self.shared.stop();
        for (thread, node) in threads {
            // The wait is refused for the current thread, if one of its callbacks drops the
            // watcher, and for a thread whose callback waits for the current callback. Both
            // threads end on their own.
            if let Some(_waiting) = wait_graph::wait_for(node) {
                // Workers catch panics, and the panic hook has reported one of the ring thread.
                let _ = thread.join();
            }
        }
        self.shared.stop.close_ring();
        // Closes the records that no worker took.
        drop(self.shared.queue.drain());
    }
}
