//! Forking a child and watching it in one call.

#![allow(
    unsafe_code,
    reason = "fork and vfork are unsafe, and so are the methods that call them"
)]

use super::watch_permit::WatchPermit;
use crate::error::{ForkError, WatchError};
use crate::record::orphan_reaper;
use crate::record::{Ownership, WatchFor};
use crate::spawn::start_gate::StartGate;
use crate::spawn::vfork::vfork;
use crate::{Watch, Watcher, sys};

impl Watcher {
    /// Forks a child and watches it.
    ///
    /// The child runs `child` and then ends: with code 0 if the closure returns, with code 101 if
    /// it panics. The caller reaps the child.
    ///
    /// The checks that can refuse the watch run before the fork. If the watch fails after the fork
    /// anyway, the child is killed and reaped; it has not run `child` then. Blocks until the child
    /// is forked and registered. Needs Linux 5.4 (`pidfd_open(2)`, and `P_PIDFD` of `waitid(2)`).
    ///
    /// # Safety
    ///
    /// The rules of `fork(2)`: a program with a watcher has several threads, so the child may only
    /// do what is async-signal-safe (`signal-safety(7)`). Locks that other threads held, possibly
    /// the allocator's, stay locked in the child forever.
    ///
    /// # Errors
    ///
    /// [`ForkError`] distinguishes whether no child was made, or the child was killed and reaped.
    pub unsafe fn fork_watchable(&self, child: impl FnOnce()) -> Result<Watch, ForkError> {
        let permit = self.fork_permit().map_err(ForkError::Refused)?;
        // The child waits at the gate until its pidfd is open, so it cannot end before. The gate
        // closes one of its two descriptors after the fork, which leaves one for the pidfd unless
        // another thread takes it at once.
        let gate = self
            .shared
            .retry_after_flush(StartGate::new)
            .map_err(ForkError::Refused)?;
        // SAFETY: the caller guarantees what `child` does; the gate before it makes system calls
        // only.
        let pid = unsafe {
            sys::fork(|| {
                gate.wait();
                child();
            })
        };
        let pid = pid.map_err(ForkError::Fork)?;
        let opener = gate.into_opener();
        sys::pidfd_open(pid)
            .map_err(|error| WatchError::from_pidfd_open(pid, error))
            .and_then(|pidfd| {
                let ownership = Some(Ownership::Child);
                self.shared
                    .register(permit, pid, pidfd, ownership, WatchFor::Exited)
            })
            .inspect_err(|error| {
                // After ESRCH the pid is free: another process killed the child, and a wait for any
                // child, or the kernel, reaped it.
                if !matches!(error, WatchError::NoSuchProcess { .. }) {
                    orphan_reaper::kill(pid);
                }
            })
            .inspect(|_| opener.open())
            .map_err(ForkError::Watch)
    }

    /// Forks a child without copying the memory of the parent, and watches it.
    ///
    /// Copying the page tables is nearly the whole cost of a fork of a large process. This child
    /// shares the memory of the parent instead and runs on a stack of its own (256 KiB), and **the
    /// calling thread is suspended until the child has executed a program or ended** (`clone(2)`
    /// with `CLONE_VM | CLONE_VFORK`). Otherwise the call works like
    /// [`fork_watchable`](Self::fork_watchable).
    ///
    /// The child starts with the signal mask of the calling thread, and with the default action for
    /// signals that have a handler. In the child, every call to a watcher returns
    /// [`Closed::ForkedChild`](crate::Closed::ForkedChild), as in a forked child.
    ///
    /// ```
    /// use std::ffi::CString;
    /// use exitring::{Outcome, Watcher};
    ///
    /// let watcher = Watcher::new()?;
    /// // The parent prepares everything that needs memory.
    /// let program = CString::new("/bin/true")?;
    /// let arguments = [program.as_ptr(), std::ptr::null()];
    /// // SAFETY: the child only executes a program, or ends.
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
    /// The child runs in the memory of this process, beside its other threads, as if it were the
    /// calling thread. It must not:
    ///
    /// - change memory that the parent does not expect to change: what the child writes, the parent
    ///   has written;
    /// - return or unwind into frames of the parent, or free memory of the parent;
    /// - wait for another thread (if that thread waits for the calling thread, neither continues),
    ///   or take a lock and end while it holds it;
    /// - call functions of the C library that keep state for each thread or process (`setuid` and
    ///   similar functions, thread functions, `exit`).
    ///
    /// Values that `child` captures by move are lost if the child executes a program or ends
    /// itself: their memory leaks, and their descriptors stay open. Capture by reference.
    ///
    /// The intended use is exec, `_exit`, and the plain system calls that prepare an exec (`dup2`,
    /// `setpgid`, `chdir`, `setrlimit`).
    ///
    /// # Errors
    ///
    /// Those of [`fork_watchable`](Self::fork_watchable). With [`ForkError::Watch`] the child has
    /// already executed its program when it is killed.
    pub unsafe fn vfork_watchable(&self, child: impl FnOnce()) -> Result<Watch, ForkError> {
        let permit = self.fork_permit().map_err(ForkError::Refused)?;
        // Opening a gate shows that a descriptor is free for the pidfd while no child exists yet.
        // If another thread takes it, the clone fails. The clone is not retried: `child` can be
        // called once only.
        let gate = self.shared.retry_after_flush(StartGate::new);
        drop(gate.map_err(ForkError::Refused)?);
        // SAFETY: the caller guarantees what `child` does.
        let (pid, pidfd) = unsafe { vfork(child) }.map_err(ForkError::Fork)?;
        let ownership = Some(Ownership::Child);
        // Some emulators ignore the request for a pidfd.
        pidfd
            .map_or_else(|| sys::pidfd_open(pid), Ok)
            .map_err(|error| WatchError::from_pidfd_open(pid, error))
            .and_then(|pidfd| {
                self.shared
                    .register(permit, pid, pidfd, ownership, WatchFor::Exited)
            })
            .inspect_err(|_| orphan_reaper::kill(pid))
            .map_err(ForkError::Watch)
    }

    fn fork_permit(&self) -> Result<WatchPermit<'_>, WatchError> {
        self.check()?;
        self.shared.check_pidfds()?;
        WatchPermit::acquire(&self.shared)
    }
}
