//! The watcher: threads, and the ways to give them processes.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::api::builder::Threads;
use crate::api::pidfd;
use crate::error::{Closed, ForkError, SystemError, WatchError};
use crate::record::delivery_guard::DeliveryGuard;
use crate::record::{Ownership, Record, WatchFor};
use crate::ring_thread::mailbox::Mailbox;
use crate::shared::Shared;
use crate::spawn::fork_gate::Gate;
use crate::spawn::vfork::vfork;
use crate::sync::wait_graph;
use crate::sys::{self, WaitResult, WaitTarget};
use crate::{BuildError, Builder, Outcome, Pid, Stats, Usage, Watch};

/// Watches process exits through one io_uring (or what is next best, see [`Backend`](crate::Backend)).
///
/// It owns a thread that owns the ring, and the threads that run callbacks. Share it by
/// reference or in an [`Arc`]; every method may be called from any thread, callbacks included, and
/// none blocks on a callback.
///
/// Dropping it ends the threads: callbacks that run are waited for, callbacks that have
/// not begun never will, whoever waits gets [`Closed::Dropped`]. After the drop no callback runs.
/// A callback may drop the watcher; then the drop waits for the other callbacks only, except ones
/// that wait for this very callback.
///
/// In a forked child (without exec) the copy of a watcher does nothing: calls give
/// [`Closed::ForkedChild`], the drop is silent. So it is however the child was forked, and whatever pid it has, but for children that
/// share the parent's memory (`vfork(2)`, `clone(2)` with `CLONE_VM`) and were not made by
/// [`vfork_watchable`](Self::vfork_watchable): those cannot be told from the parent, and may only exec or end. Where the
/// kernel cannot wipe a page in forked children (`MADV_WIPEONFORK`, Linux 4.14), a child is known by its pid, and by the C library's
/// `fork` having been called.
///
/// ```
/// use std::process::Command;
/// use exitring::Watcher;
///
/// let watcher = Watcher::new()?;
/// let mut child = Command::new("true").spawn()?;
/// let watch = watcher.watch(child.id())?;
/// assert!(watch.wait()?.success());
/// child.wait()?; // what is only watched is never reaped
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a watcher that is dropped ends"]
pub struct Watcher {
    pub(crate) shared: Arc<Shared>,
    threads: Threads,
}

impl Watcher {
    /// A watcher with one worker and the default limits.
    ///
    /// # Errors
    ///
    /// As [`Builder::build`].
    pub fn new() -> Result<Self, BuildError> {
        Self::builder().build()
    }

    /// To choose workers and limits.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn new_from(shared: Arc<Shared>, threads: Threads) -> Self {
        Self { shared, threads }
    }

    /// Watches the process with this pid, a child or not, ended (a zombie) or not.
    ///
    /// Takes a [`Pid`], or what `std` has: `watcher.watch(child.id())`. When it returns, the identity
    /// is fixed: whatever becomes of the number, this process is meant. Reaping stays with whom
    /// it was; the watcher only looks. Any number of watches may be on one process.
    ///
    /// Costs the caller two system calls (`pidfd_open(2)`, and `waitid(2)` with `P_PIDFD`, Linux 5.4) and, if the
    /// ring thread sleeps, a wake-up; does not wait for it, except when so many registrations are on their way (256,
    /// or an eighth of `RLIMIT_NOFILE`) that their descriptors could be missed by others.
    ///
    /// # Errors
    ///
    /// [`WatchError::InvalidPid`] for zero and negative numbers, [`WatchError::NoSuchProcess`] for
    /// what was reaped or never lived, [`WatchError::Thread`] for the id of a thread, and what can run out.
    pub fn watch<P>(&self, pid: P) -> Result<Watch, WatchError>
    where
        P: TryInto<Pid>,
        P::Error: Into<WatchError>,
    {
        self.open_and_watch(pid.try_into().map_err(Into::into)?, WatchFor::Exited)
    }

    /// As [`watch`](Self::watch), for the moment when its parent has reaped the process, which for a process
    /// that is no child of this one is when its status can be told: from Linux 6.15 on, else the outcome is
    /// [`Unknown::NotAChild`](crate::Unknown::NotAChild). A zombie has not reached this moment. There is no usage.
    ///
    /// # Errors
    ///
    /// As [`watch`](Self::watch), and [`WatchError::Unsupported`] before Linux 6.9, whose pidfds do not tell
    /// (`POLLHUP`, kernel commit 43f0df54c96f).
    pub fn watch_reaped<P>(&self, pid: P) -> Result<Watch, WatchError>
    where
        P: TryInto<Pid>,
        P::Error: Into<WatchError>,
    {
        self.open_and_watch(pid.try_into().map_err(Into::into)?, WatchFor::Reaped)
    }

    /// Watches the process behind a pidfd, which the watcher takes and closes. This
    /// is the way without any race over the number, for pidfds from `clone3(2)` (`CLONE_PIDFD`) or from
    /// another process.
    ///
    /// # Errors
    ///
    /// [`WatchError::NotAPidfd`], [`WatchError::ThreadPidfd`] for one of a thread,
    /// [`WatchError::Reaped`] if not even the pid can be told any more, and what can run out.
    pub fn watch_pidfd(&self, pidfd: OwnedFd) -> Result<Watch, WatchError> {
        self.shared.check_process()?;
        self.shared.check_pidfds()?;
        let place = WatchPermit::reserve(&self.shared)?;
        let pid = pidfd::pid_of(pidfd.as_fd())?;
        self.send(place, pid, pidfd, None, WatchFor::Exited)
    }

    /// Forks, and watches the child, in one call. The child runs `child` and ends: with code 0 when
    /// it returns, 101 when it panics. It is the caller's to reap.
    ///
    /// What could refuse the watch is asked before the fork; what strikes after it all the same
    /// kills and reaps the child.
    ///
    /// # Safety
    ///
    /// As `fork(2)`: in a program with threads (a watcher has some) the child may do only what is
    /// async-signal-safe (`signal-safety(7)`). Locks that other threads held stay locked in it for
    /// ever, the allocator's perhaps among them.
    ///
    /// # Errors
    ///
    /// [`ForkError`] says whether nothing was forked, or the child is gone again.
    #[allow(unsafe_code)]
    pub unsafe fn fork_watchable(&self, child: impl FnOnce()) -> Result<Watch, ForkError> {
        self.check()
            .map_err(WatchError::from)
            .and_then(|()| self.shared.check_pidfds())
            .map_err(ForkError::Refused)?;
        let place = WatchPermit::reserve(&self.shared).map_err(ForkError::Refused)?;
        // The child waits behind a gate until its pidfd is open: it cannot end before. The gate's two
        // descriptors leave one for the pidfd, unless another thread takes it at once.
        let gate = self.with_flush(Gate::new).map_err(ForkError::Refused)?;
        // SAFETY: the caller answers for what the child does; before, it only reads.
        let pid = unsafe {
            sys::fork(|| {
                gate.pass();
                child();
            })
        };
        let pid = pid.map_err(ForkError::Fork)?;
        let opening = gate.keep_opener();
        sys::pidfd_open(pid)
            .map_err(|error| WatchError::from_pidfd_open(pid, error))
            .and_then(|pidfd| {
                self.send(place, pid, pidfd, Some(Ownership::Child), WatchFor::Exited)
            })
            .inspect_err(|error| {
                // Nobody has this pid: killed from outside, and reaped by itself or by a
                // wait for any child.
                if !matches!(error, WatchError::NoSuchProcess { .. }) {
                    sys::kill_and_reap(pid);
                }
            })
            .inspect(|_| opening.open())
            .map_err(ForkError::Watch)
    }

    /// As [`fork_watchable`](Self::fork_watchable), without copying the parent's memory, which for a large
    /// process is nearly all that a fork costs. The child shares the memory, on a stack of its own (256 KiB),
    /// and **this thread is suspended until the child has exec'ed or ended** (`CLONE_VM` and `CLONE_VFORK`,
    /// `clone(2)`).
    ///
    /// The child starts with the signals blocked that this thread blocks, and handled ones at their default. In the child
    /// every call of a watcher is refused, as in one that was forked ([`Closed::ForkedChild`]).
    ///
    /// ```
    /// use std::ffi::CString;
    /// use exitring::{Outcome, Watcher};
    ///
    /// let watcher = Watcher::new()?;
    /// // All that needs memory is prepared in the parent.
    /// let program = CString::new("/bin/true")?;
    /// let arguments = [program.as_ptr(), std::ptr::null()];
    /// // SAFETY: the child execs at once, or ends.
    /// let watch = unsafe {
    ///     watcher.vfork_watchable(|| {
    ///         libc::execv(program.as_ptr(), arguments.as_ptr());
    ///         libc::_exit(127);
    ///     })
    /// }?;
    /// assert_eq!(watch.wait()?.outcome(), Outcome::Exited(0));
    /// # unsafe { libc::waitpid(watch.pid().as_raw(), std::ptr::null_mut(), 0) };
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Safety
    ///
    /// The child runs in this process's memory, beside its other threads, as if it were this thread. So it
    /// must not
    /// - change what the parent does not expect to be changed: everything it writes, the parent has written;
    /// - return into, unwind into, or free anything of the parent's, wait for another thread (one that waits for
    ///   this one is waited for in vain), or take a lock and end with it held;
    /// - call what keeps state per thread or process behind the C library's back (`setuid` and its kin, threads,
    ///   `exit`).
    ///
    /// What `child` captures by value is lost if it execs or ends itself: the memory leaks, descriptors stay open. Capture
    /// by reference. Exec, `_exit`, and the bare system calls that set up an exec (`dup2`, `setpgid`, `chdir`, `setrlimit`) are what it is for.
    ///
    /// # Errors
    ///
    /// As [`fork_watchable`](Self::fork_watchable). With [`ForkError::Watch`] the child has exec'ed already when it is killed.
    #[allow(unsafe_code)]
    pub unsafe fn vfork_watchable(&self, child: impl FnOnce()) -> Result<Watch, ForkError> {
        self.check()
            .map_err(WatchError::from)
            .and_then(|()| self.shared.check_pidfds())
            .map_err(ForkError::Refused)?;
        let place = WatchPermit::reserve(&self.shared).map_err(ForkError::Refused)?;
        // There is a descriptor to be had for the pidfd, or this fails before there is a child; then the
        // clone says so itself, but is not repeated: `child` may be called once.
        drop(self.with_flush(Gate::new).map_err(ForkError::Refused)?);
        // SAFETY: the caller answers for what the child does.
        let (pid, pidfd) = unsafe { vfork(child) }.map_err(ForkError::Fork)?;
        self.send(place, pid, pidfd, Some(Ownership::Child), WatchFor::Exited)
            .inspect_err(|_| sys::kill_and_reap(pid))
            .map_err(ForkError::Watch)
    }

    /// Whether the watcher serves, and if not, why. Never blocks, and may be asked in a forked child.
    ///
    /// # Errors
    ///
    /// [`Closed`] says what every other call gets.
    pub fn check(&self) -> Result<(), Closed> {
        self.shared.check_process()?;
        self.shared.check_open()
    }

    /// A reading of the counters. Never blocks for long. In a forked child all zeroes.
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

    fn open_and_watch(&self, pid: Pid, watch_for: WatchFor) -> Result<Watch, WatchError> {
        self.shared.check_process()?;
        self.shared.check_pidfds()?;
        let place = WatchPermit::reserve(&self.shared)?;
        let pidfd = self.open_pidfd(pid)?;
        // The release that has pidfds tell of the reap also brought pidfs.
        if watch_for == WatchFor::Reaped && sys::pidfs_inode(pidfd.as_fd()).is_none() {
            return Err(WatchError::Unsupported);
        }
        self.send(place, pid, pidfd, None, watch_for)
    }

    /// Opens a pidfd; when there is no descriptor, once more after the ring thread has given
    /// back the ones that are on their way to it.
    fn open_pidfd(&self, pid: Pid) -> Result<OwnedFd, WatchError> {
        self.with_flush(|| {
            sys::pidfd_open(pid).map_err(|error| WatchError::from_pidfd_open(pid, error))
        })
    }

    /// Tries again after a flush if there was no descriptor.
    fn with_flush<T>(&self, attempt: impl Fn() -> Result<T, WatchError>) -> Result<T, WatchError> {
        match attempt() {
            Err(WatchError::NoDescriptors(_)) => {
                self.flush();
                attempt()
            }
            other => other,
        }
    }

    /// Waits until the ring thread has come to what was sent to it.
    fn flush(&self) {
        // On the ring thread, or in a callback that it waits for: it comes to it when we return.
        if let Some(_waiting) = wait_graph::wait_for(self.shared.ring_thread) {
            self.shared.mailbox.flush(FLUSH_TIMEOUT);
        }
    }

    /// `kin`: `None` if it has to be found out.
    fn send(
        &self,
        place: WatchPermit<'_>,
        pid: Pid,
        pidfd: OwnedFd,
        ownership: Option<Ownership>,
        watch_for: WatchFor,
    ) -> Result<Watch, WatchError> {
        let ownership = match ownership {
            Some(ownership) => ownership,
            None => match sys::waitid(WaitTarget::Look(pidfd.as_fd())) {
                Ok(WaitResult::Ended(..) | WaitResult::NotYet) => Ownership::Child,
                Ok(WaitResult::NoChild) => Ownership::NotChild,
                Err(source) => {
                    let call = "waitid";
                    return Err(SystemError { call, source }.into());
                }
            },
        };
        let watch = self.begin(place, pid, ownership, watch_for, |mailbox, guard| {
            mailbox.watch(guard, pidfd)
        })?;
        if self.shared.mailbox.is_over_descriptor_budget() {
            self.flush();
        }
        Ok(watch)
    }

    /// Begins a watch: makes its record and puts it into the mailbox.
    pub(crate) fn begin(
        &self,
        place: WatchPermit<'_>,
        pid: Pid,
        ownership: Ownership,
        watch_for: WatchFor,
        put: impl FnOnce(&Mailbox, DeliveryGuard) -> Result<(), DeliveryGuard>,
    ) -> Result<Watch, WatchError> {
        let record = Arc::new(Record::new(pid, ownership, watch_for));
        put(
            &self.shared.mailbox,
            DeliveryGuard::new(Arc::clone(&record)),
        )
        .map_err(|guard| {
            // Whoever called gets the error, and has the child still.
            guard.done();
            self.shared.why_closed()
        })?;
        place.taken();
        Ok(Watch::new(Arc::clone(&self.shared), record))
    }

    /// A watch on what has ended, with what is known of it.
    pub(crate) fn ended(
        &self,
        place: WatchPermit<'_>,
        pid: Pid,
        outcome: Outcome,
        usage: Option<Usage>,
    ) -> Watch {
        // Never with the ring thread, so the place is free again.
        drop(place);
        let record = Arc::new(Record::new(pid, Ownership::Owned, WatchFor::Exited));
        let guard = DeliveryGuard::new(Arc::clone(&record));
        let _no_callbacks = guard.finish(outcome, usage, Instant::now());
        Watch::new(Arc::clone(&self.shared), record)
    }
}

/// The handles of its threads, which keep the type from having these by itself, are only joined, once.
impl UnwindSafe for Watcher {}
impl RefUnwindSafe for Watcher {}

/// How long a caller waits at most for the ring thread to come to what was sent: that can be in user
/// code (a callback, without workers; a waker), which may be waiting for the caller.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(50);

/// A place among the allowed watches; given back if nothing comes of it.
pub(crate) struct WatchPermit<'a>(&'a Shared);

impl<'a> WatchPermit<'a> {
    pub(crate) fn reserve(shared: &'a Shared) -> Result<Self, WatchError> {
        let limit = shared.max_watches;
        if shared.counters.watched.add_one_within(limit as u64) {
            return Ok(Self(shared));
        }
        // No use in trying again later if nothing will ever end.
        shared.check_open()?;
        Err(WatchError::TooMany { limit })
    }

    /// The ring thread has it now.
    fn taken(self) {
        std::mem::forget(self);
    }
}

impl Drop for WatchPermit<'_> {
    fn drop(&mut self) {
        self.0.counters.watched.sub(1);
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watcher").finish_non_exhaustive()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let threads = std::mem::take(&mut self.threads);
        if self.shared.check_process() == Err(Closed::ForkedChild) {
            // The threads are the parent's, the locks may be locked for ever.
            std::mem::forget(threads);
            return;
        }
        self.shared.stop();
        for (thread, node) in threads {
            // Refused for the thread that we are on, if a callback of ours drops us, and for
            // one whose callback waits for the callback that drops us: they end by themselves.
            if let Some(_waiting) = wait_graph::wait_for(node) {
                // Worker panics are caught, the ring thread's was shown by the panic hook.
                let _ = thread.join();
            }
        }
        self.shared.stop.close_ring();
        // Closes what no worker took.
        drop(self.shared.queue.drain());
    }
}
