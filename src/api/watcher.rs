//! The watcher: its threads, and the registration of processes.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::thread::JoinHandle;

use super::pidfd;
use super::watch_permit::WatchPermit;
use crate::error::{Closed, WatchError};
use crate::record::WatchFor;
use crate::shared::Shared;
use crate::sync::wait_graph::{self, Node};
use crate::sys;
use crate::{Pid, Stats, Watch};

/// Watches process exits through one io_uring, or through the best other
/// [`Backend`](crate::Backend) that the process may use.
///
/// A watcher owns the ring thread, which waits for exits, the worker threads, which run callbacks,
/// and the threads that start commands for futures. Share it by reference or in an [`Arc`]. Every method can be called from any thread,
/// including from callbacks, and none blocks on a callback.
///
/// # Drop
///
/// The drop ends the threads. It waits for callbacks that are running, and for commands that are
/// being started; it discards callbacks and commands that have not started, and every thread that waits for an exit gets [`Closed::Dropped`]. No callback runs
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
/// `CLONE_VM`) and was not made by [`vfork_watchable`](Self::vfork_watchable). It cannot be
/// distinguished from the parent, and may only execute a program or end.
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
        self.shared
            .register(permit, pid, pidfd, None, WatchFor::Exited)
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
        let pidfd = self.shared.retry_after_flush(|| {
            sys::pidfd_open(pid).map_err(|error| WatchError::from_pidfd_open(pid, error))
        })?;
        // Linux 6.9 brought both pidfs and pidfds that report the reap.
        if watch_for == WatchFor::Reaped && sys::pidfs_inode(pidfd.as_fd()).is_none() {
            return Err(WatchError::Unsupported);
        }
        self.shared.register(permit, pid, pidfd, None, watch_for)
    }
}

/// The handles of the threads are not `UnwindSafe`. They are only joined, once.
impl UnwindSafe for Watcher {}
impl RefUnwindSafe for Watcher {}

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
        let starters = self.shared.starters.take_threads();
        for (thread, node) in threads.into_iter().chain(starters) {
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
