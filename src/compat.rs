//! The API of the Shadow simulator's child watcher, on top of the public API of this crate.
//!
//! It is a drop-in replacement, and shows that the public API is sufficient. Like the original, it
//! panics on misuse; the rest of this crate never panics.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::{CallbackId, Closed, ForkError, Pid, Watch, Watcher};

/// The id of one callback of a [`ChildPidWatcher`]. Never zero, and not reused.
pub type WatchHandle = u64;

/// Runs callbacks when child processes end.
///
/// It has a ring thread and one worker thread, which its drop joins. Every method can be called
/// from any thread, including from callbacks. In a forked child, the methods that unregister have
/// no effect, `fork_watchable` returns an error, and the others panic.
///
/// ```
/// use std::sync::mpsc;
/// use exitring::{Pid, compat::ChildPidWatcher};
///
/// let watcher = ChildPidWatcher::new();
/// let mut child = std::process::Command::new("true").spawn()?;
/// let pid = Pid::try_from(child.id())?;
/// watcher.register_pid(pid);
/// let (sender, receiver) = mpsc::channel();
/// watcher.register_callback(pid, move |pid| sender.send(pid).unwrap());
/// watcher.unregister_pid(pid); // the callback still runs
/// assert_eq!(receiver.recv()?, pid);
/// child.wait()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ChildPidWatcher {
    watcher: Watcher,
    registry: Arc<Mutex<Registry>>,
}

#[derive(Default)]
struct Registry {
    last_handle: WatchHandle,
    registered: HashMap<Pid, Arc<Watch>>,
    /// Callbacks that have not returned, including those of pids that were unregistered meanwhile.
    pending: HashMap<WatchHandle, Pending>,
}

#[derive(Clone)]
struct Pending {
    pid: Pid,
    watch: Arc<Watch>,
    /// `None` while the callback is being added.
    id: Option<CallbackId>,
}

impl ChildPidWatcher {
    /// Builds a watcher with one thread for callbacks.
    ///
    /// # Panics
    ///
    /// Panics if [`Watcher::new`] fails.
    pub fn new() -> Self {
        let watcher = Watcher::new().unwrap_or_else(|error| panic!("no watcher: {error}"));
        Self {
            watcher,
            registry: Arc::default(),
        }
    }

    /// Forks a child and registers it. The child runs `child_fn` and then ends, with code 0 if the
    /// closure returns.
    ///
    /// # Safety
    ///
    /// The rules of [`Watcher::fork_watchable`].
    ///
    /// # Errors
    ///
    /// Those of [`Watcher::fork_watchable`].
    #[expect(unsafe_code, reason = "fork is unsafe, and so is this method")]
    pub unsafe fn fork_watchable(&self, child_fn: impl FnOnce()) -> Result<Pid, ForkError> {
        // SAFETY: the caller guarantees what the child does.
        let watch = unsafe { self.watcher.fork_watchable(child_fn) }?;
        let pid = watch.pid();
        self.register(pid, watch);
        Ok(pid)
    }

    /// Registers a process for callbacks. It may be running or a zombie.
    ///
    /// Unregister the process before it is reaped: afterwards another process may have its pid.
    ///
    /// # Panics
    ///
    /// Panics if there is no such process, if it is registered already, or if it cannot be watched
    /// ([`Watcher::watch`]).
    pub fn register_pid(&self, pid: Pid) {
        match self.watcher.watch(pid) {
            Ok(watch) => self.register(pid, watch),
            Err(error) => panic!("cannot register {pid}: {error}"),
        }
    }

    fn register(&self, pid: Pid, watch: Watch) {
        let mut registry = lock(&self.registry);
        if let Entry::Vacant(vacant) = registry.registered.entry(pid) {
            vacant.insert(Arc::new(watch));
            return;
        }
        // The existing registration stays, and the panic does not poison the lock.
        drop(registry);
        panic!("{pid} is registered already");
    }

    /// Called before the registry is locked, whose lock may stay locked in a forked child forever.
    fn in_forked_child(&self) -> bool {
        self.watcher.check() == Err(Closed::ForkedChild)
    }

    /// Unregisters a process: no more callbacks can be added, and those it has still run. Does
    /// nothing if the process is not registered.
    pub fn unregister_pid(&self, pid: Pid) {
        if self.in_forked_child() {
            return;
        }
        let watch = lock(&self.registry).registered.remove(&pid);
        drop(watch);
    }

    /// Adds a callback, which runs once, on another thread, when the process has ended, or soon if
    /// it has ended already. Does not block.
    ///
    /// # Panics
    ///
    /// Panics if the process is not registered, in a forked child, or if the ring thread died.
    pub fn register_callback(
        &self,
        pid: Pid,
        callback: impl FnOnce(Pid) + Send + 'static,
    ) -> WatchHandle {
        assert!(!self.in_forked_child(), "{}", Closed::ForkedChild);
        let mut registry = lock(&self.registry);
        let Some(watch) = registry.registered.get(&pid).map(Arc::clone) else {
            drop(registry);
            panic!("{pid} is not registered");
        };
        registry.last_handle += 1;
        let handle = registry.last_handle;
        // Inserted before the callback can remove it. The id is set afterwards.
        let pending = Pending {
            pid,
            watch: Arc::clone(&watch),
            id: None,
        };
        registry.pending.insert(handle, pending);
        drop(registry);
        let entry = CallbackEntry {
            callback,
            remove: RemoveOnDrop {
                registry: Arc::downgrade(&self.registry),
                handle,
            },
        };
        let id = watch
            .on_exit(move |exit| entry.run(exit.pid()))
            .unwrap_or_else(|closed| panic!("cannot add a callback for {pid}: {closed}"));
        if let Some(pending) = lock(&self.registry).pending.get_mut(&handle) {
            pending.id = Some(id);
        }
        handle
    }

    /// Cancels a callback. When the call returns, the callback has returned or will never run.
    ///
    /// Blocks while the callback runs, unless the callback cancels itself. Does nothing if the pid
    /// or the handle is not registered, or no longer is.
    pub fn unregister_callback(&self, pid: Pid, handle: WatchHandle) {
        if self.in_forked_child() {
            return;
        }
        let pending = lock(&self.registry).pending.get(&handle).cloned();
        let Some(pending) = pending.filter(|pending| pending.pid == pid) else {
            return;
        };
        if let Some(id) = pending.id {
            // A callback that cancels itself continues.
            let _ = pending.watch.cancel(id);
        }
    }
}

impl Default for ChildPidWatcher {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ChildPidWatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildPidWatcher").finish_non_exhaustive()
    }
}

/// A callback, and the removal of its entry from the registry.
///
/// The entry is removed after everything that the callback captured was dropped, whether the
/// callback ran or not: fields are dropped in order.
struct CallbackEntry<F> {
    callback: F,
    remove: RemoveOnDrop,
}

impl<F: FnOnce(Pid)> CallbackEntry<F> {
    fn run(self, pid: Pid) {
        let _remove = self.remove;
        (self.callback)(pid);
    }
}

/// Removes the entry of a callback that has returned, panicked, or been cancelled.
struct RemoveOnDrop {
    registry: Weak<Mutex<Registry>>,
    handle: WatchHandle,
}

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        if let Some(registry) = self.registry.upgrade() {
            let pending = lock(&registry).pending.remove(&self.handle);
            // Dropped after the lock is released, because it may end the watch.
            drop(pending);
        }
    }
}

fn lock(registry: &Mutex<Registry>) -> MutexGuard<'_, Registry> {
    registry.lock().unwrap_or_else(PoisonError::into_inner)
}
