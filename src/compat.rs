//! The surface of the Shadow simulator's child watcher, on exitring's public API alone: a drop-in,
//! and the proof that the API is enough.
//!
//! Where that watcher panics, so does this one; the rest of exitring never does.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::{CallbackId, Closed, ForkError, Pid, Watch, Watcher};

/// Names one callback of a [`ChildPidWatcher`]. Never zero.
pub type WatchHandle = u64;

/// Calls back when child processes end. Starts threads, which are joined when it is dropped.
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
    book: Arc<Mutex<Registry>>,
}

#[derive(Default)]
struct Registry {
    last_handle: WatchHandle,
    registered: HashMap<Pid, Arc<Watch>>,
    /// Callbacks that have not run to their end. Of pids unregistered meanwhile, too.
    pending: HashMap<WatchHandle, Pending>,
}

#[derive(Clone)]
struct Pending {
    pid: Pid,
    watch: Arc<Watch>,
    id: Option<CallbackId>,
}

impl ChildPidWatcher {
    /// A watcher with one thread for callbacks.
    ///
    /// # Panics
    ///
    /// If [`Watcher::new`] fails.
    pub fn new() -> Self {
        let watcher = Watcher::new().unwrap_or_else(|error| panic!("no watcher: {error}"));
        Self {
            watcher,
            book: Arc::default(),
        }
    }

    /// Forks and registers the child. When `child_fn` returns, the child ends with code 0.
    ///
    /// # Safety
    ///
    /// As [`Watcher::fork_watchable`].
    ///
    /// # Errors
    ///
    /// As [`Watcher::fork_watchable`].
    #[expect(unsafe_code, reason = "fork is unsafe, and handed through")]
    pub unsafe fn fork_watchable(&self, child_fn: impl FnOnce()) -> Result<Pid, ForkError> {
        // SAFETY: the caller answers for what the child does.
        let watch = unsafe { self.watcher.fork_watchable(child_fn) }?;
        let pid = watch.pid();
        self.register(pid, watch);
        Ok(pid)
    }

    /// Registers a process, running or a zombie, for callbacks. It must not be reaped before it
    /// is unregistered: its number would be another's.
    ///
    /// # Panics
    ///
    /// If there is no such process, or it is registered already.
    pub fn register_pid(&self, pid: Pid) {
        match self.watcher.watch(pid) {
            Ok(watch) => self.register(pid, watch),
            Err(error) => panic!("cannot register {pid}: {error}"),
        }
    }

    fn register(&self, pid: Pid, watch: Watch) {
        let mut book = lock(&self.book);
        if let Entry::Vacant(vacant) = book.registered.entry(pid) {
            vacant.insert(Arc::new(watch));
            return;
        }
        // The registration that is there stays, and the lock is not poisoned.
        drop(book);
        panic!("{pid} is registered already");
    }

    /// Asked before the book, which in a forked child may stay locked for ever.
    fn in_forked_child(&self) -> bool {
        self.watcher.check() == Err(Closed::ForkedChild)
    }

    /// Takes no more callbacks for the process. Those it has still run. May be called again.
    pub fn unregister_pid(&self, pid: Pid) {
        if self.in_forked_child() {
            return;
        }
        let watch = lock(&self.book).registered.remove(&pid);
        drop(watch);
    }

    /// Has `callback` run once, on another thread, after the process has ended, or soon if it has.
    ///
    /// # Panics
    ///
    /// If the process is not registered, or this is a forked child.
    pub fn register_callback(
        &self,
        pid: Pid,
        callback: impl FnOnce(Pid) + Send + 'static,
    ) -> WatchHandle {
        assert!(!self.in_forked_child(), "{}", Closed::ForkedChild);
        let mut book = lock(&self.book);
        let Some(watch) = book.registered.get(&pid).map(Arc::clone) else {
            drop(book);
            panic!("{pid} is not registered");
        };
        book.last_handle += 1;
        let handle = book.last_handle;
        // Entered before the callback can strike it off; its id follows.
        let pending = Pending {
            pid,
            watch: Arc::clone(&watch),
            id: None,
        };
        book.pending.insert(handle, pending);
        drop(book);
        let entry = Registered {
            callback,
            done: Done {
                book: Arc::downgrade(&self.book),
                handle,
            },
        };
        let id = watch
            .on_exit(move |exit| entry.run(exit.pid()))
            .unwrap_or_else(|closed| panic!("cannot add a callback for {pid}: {closed}"));
        if let Some(pending) = lock(&self.book).pending.get_mut(&handle) {
            pending.id = Some(id);
        }
        handle
    }

    /// Cancels a callback: when this returns, it has run to its end or never will. Does nothing for
    /// pids and handles that are not registered (any more).
    pub fn unregister_callback(&self, pid: Pid, handle: WatchHandle) {
        if self.in_forked_child() {
            return;
        }
        let pending = lock(&self.book).pending.get(&handle).cloned();
        if let Some(pending) = pending.filter(|pending| pending.pid == pid)
            && let Some(id) = pending.id
        {
            // A callback that cancels itself goes on, as it must.
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

/// A callback and its entry in the book, which is struck off after all that the callback captured is
/// gone: fields are dropped in order, run or unrun.
struct Registered<F> {
    callback: F,
    done: Done,
}

impl<F: FnOnce(Pid)> Registered<F> {
    fn run(self, pid: Pid) {
        let _done = self.done;
        (self.callback)(pid);
    }
}

/// Strikes a callback off when it has run, panicked, or been cancelled.
struct Done {
    book: Weak<Mutex<Registry>>,
    handle: WatchHandle,
}

impl Drop for Done {
    fn drop(&mut self) {
        if let Some(book) = self.book.upgrade() {
            let pending = lock(&book).pending.remove(&self.handle);
            // May end the watch: not under the lock.
            drop(pending);
        }
    }
}

fn lock(book: &Mutex<Registry>) -> MutexGuard<'_, Registry> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}
