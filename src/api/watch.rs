//! The handle of one watch.

use std::fmt;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use crate::api::future::Exited;
use crate::dispatch::sink::Sink;
use crate::dispatch::tagged_queue::KeptWatch;
use crate::error::{Closed, SignalError, WaitError};
use crate::record::{NewDeadline, Ownership, Record, WakerKey};
use crate::ring_thread::command::Command;
use crate::shared::Shared;
use crate::sync::wait_graph::{self, Node};
use crate::types::callback::{CallbackId, Cancel};
use crate::{Exit, Pid};

/// A watch on one process.
///
/// Dropping it ends the watch, unless it has callbacks or was added to an
/// [`Exits`](crate::Exits): callbacks still run and the queue still gets the exit, but no more can
/// be added. A watch may outlive its watcher; an exit that was received before can still be read.
#[must_use = "dropping a watch ends it, unless it has callbacks or is in a queue of exits"]
pub struct Watch {
    shared: Arc<Shared>,
    record: Arc<Record>,
}

impl Watch {
    pub(crate) fn new(shared: Arc<Shared>, record: Arc<Record>) -> Self {
        Self { shared, record }
    }

    /// The pid of the process. After the process was reaped, another process may have the same pid.
    pub fn pid(&self) -> Pid {
        self.record.pid()
    }

    /// Adds a callback, which runs once when the process has ended, or soon if it has ended
    /// already.
    ///
    /// The callback runs on a worker thread (with `workers(0)` on the ring thread), never on the
    /// calling thread, and the watcher holds no lock meanwhile. It may call every method of this
    /// crate, spawn children, and drop the watcher. Callbacks of one process run in the order in
    /// which they were added, one at a time. A panic in a callback is reported by the panic hook,
    /// counted ([`Stats::panics`](crate::Stats)), and affects no other callback. The call does not
    /// block.
    ///
    /// A child that a callback forks must not return from it: it would go on as a copy of the thread,
    /// and run the callbacks of other processes a second time.
    ///
    /// # Signals
    ///
    /// While a callback runs, its thread has the signal mask that the builder's thread had when the
    /// watcher was built, as any thread would that the builder's thread started. So children that
    /// the callback makes, in any way, inherit that mask, and signal handlers of the program may
    /// run on the thread. At other times the thread blocks all signals except those that a thread
    /// raises itself.
    ///
    /// A program that blocks signals in all threads, to receive them in one, should do so before it
    /// builds a watcher. A callback that changes the mask of its thread must restore it.
    ///
    /// # Errors
    ///
    /// [`Closed`] if the watcher ended, so that no thread could run the callback.
    ///
    /// ```
    /// use std::sync::mpsc;
    /// # use exitring::Watcher;
    ///
    /// let watcher = Watcher::new()?;
    /// let mut child = std::process::Command::new("sh").args(["-c", "exit 3"]).spawn()?;
    /// let watch = watcher.watch(child.id())?;
    /// let (sender, receiver) = mpsc::channel();
    /// watch.on_exit(move |exit| sender.send(exit.status()).unwrap())?;
    /// assert_eq!(receiver.recv()?.and_then(|status| status.code()), Some(3));
    /// child.wait()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_exit(
        &self,
        callback: impl FnOnce(&Exit) + Send + 'static,
    ) -> Result<CallbackId, Closed> {
        self.shared.check_process()?;
        self.record.on_exit(&self.shared, Box::new(callback))
    }

    /// Cancels a callback.
    ///
    /// When the call returns, the callback has returned or will never run, and its captures are
    /// dropped. Blocks while the callback runs.
    ///
    /// The exception is a callback that cancels itself, or that cancels a callback which waits for
    /// it: the call returns [`Cancel::Running`] at once.
    ///
    /// Returns [`Cancel::NotPending`] in a forked child, where the callback never runs.
    pub fn cancel(&self, id: CallbackId) -> Cancel {
        match self.shared.check_process() {
            Ok(()) => self.record.cancel(id),
            Err(_) => Cancel::NotPending,
        }
    }

    /// The exit, if the watcher has received it. Never blocks.
    pub fn exit(&self) -> Option<Exit> {
        self.record.exit().cloned()
    }

    /// The exit, or an error if it can no longer be received. Never blocks.
    ///
    /// # Errors
    ///
    /// [`Closed`] if the watcher ended before the process.
    pub fn try_wait(&self) -> Result<Option<Exit>, Closed> {
        if let Some(exit) = self.record.exit() {
            return Ok(Some(exit.clone()));
        }
        self.shared.check_process()?;
        Ok(self.record.try_wait(&self.shared)?.cloned())
    }

    /// Blocks until the process has ended. The call may return before the callbacks have run.
    ///
    /// Several threads can wait, and a thread can wait more than once.
    ///
    /// # Errors
    ///
    /// [`WaitError::Closed`] if the watcher ends first. [`WaitError::WouldDeadlock`] on the ring
    /// thread of any watcher (in a waker, or in a callback with `workers(0)`), and in a callback
    /// for which the ring thread of this watcher waits.
    pub fn wait(&self) -> Result<Exit, WaitError> {
        loop {
            if let Some(exit) = self.wait_until(None)? {
                return Ok(exit);
            }
        }
    }

    /// Blocks until the process has ended, for at most `timeout`. Returns `None` if it has not
    /// ended by then.
    ///
    /// # Errors
    ///
    /// Those of [`wait`](Self::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<Option<Exit>, WaitError> {
        // A deadline past the end of the clock is the same as none.
        self.wait_until(Instant::now().checked_add(timeout))
    }

    /// Returns a future of the exit that borrows the watch. It works with any executor; dropping it
    /// is cheap.
    ///
    /// `(&watch).await` is the same. `watch.await` takes the watch
    /// ([`OwnedExited`](crate::OwnedExited)).
    pub fn exited(&self) -> Exited<'_> {
        Exited::new(self)
    }

    fn wait_until(&self, deadline: Option<Instant>) -> Result<Option<Exit>, WaitError> {
        if let Some(exit) = self.record.exit() {
            return Ok(Some(exit.clone()));
        }
        self.check_may_wait()?;
        Ok(self.record.wait(&self.shared, deadline)?.cloned())
    }
}

/// Methods for the rest of the crate. Each one that takes a lock checks first that this is the
/// process of the watcher.
impl Watch {
    /// Checks whether the calling thread may wait for the exit.
    pub(crate) fn check_may_wait(&self) -> Result<(), WaitError> {
        self.shared.check_process()?;
        // The ring thread of any watcher: the other watcher may wait for its next callback.
        match wait_graph::is_ring_thread() {
            true => Err(WaitError::WouldDeadlock),
            false => Ok(()),
        }
    }

    pub(crate) fn check_process(&self) -> Result<(), Closed> {
        self.shared.check_process()
    }

    /// The ring thread that delivers the exit.
    pub(crate) fn ring_thread(&self) -> Node {
        self.shared.ring_thread
    }

    /// What a queue keeps if the process is not ours to reap: the drop of the queue may abandon the
    /// watch.
    pub(crate) fn to_keep(&self) -> Option<KeptWatch> {
        (self.record.ownership() != Ownership::Owned).then(|| KeptWatch {
            record: Arc::clone(&self.record),
            shared: Arc::clone(&self.shared),
        })
    }

    pub(crate) fn add_sink(&self, sink: Sink) -> Result<(), Closed> {
        self.record.add_sink(&self.shared, sink)
    }

    pub(crate) fn poll_exit(
        &self,
        key: &mut WakerKey,
        waker: &Waker,
    ) -> Poll<Result<Exit, Closed>> {
        if let Some(exit) = self.record.exit() {
            return Poll::Ready(Ok(exit.clone()));
        }
        match self.shared.check_process() {
            Ok(()) => self.record.poll(&self.shared, key, waker),
            Err(closed) => Poll::Ready(Err(closed)),
        }
    }

    pub(crate) fn forget_waker(&self, key: WakerKey) {
        let Some(key) = key else {
            return;
        };
        if self.record.exit().is_none() && self.shared.check_process().is_ok() {
            self.record.forget_waker(key);
        }
    }

    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    pub(crate) fn signal(&self, signal: i32, group: bool) -> Result<(), SignalError> {
        self.shared.check_process()?;
        self.record.signal(signal, group)
    }

    pub(crate) fn set_deadline(&self, after: Duration, grace: Duration) -> Result<(), Closed> {
        // Before the record is locked, whose lock may stay locked in a forked child.
        self.shared.check_process()?;
        if self.record.exit().is_some() && !self.record.group_in_grace() {
            return Ok(());
        }
        self.shared.check_open()?;
        // A deadline past the end of the clock never expires.
        let at = Instant::now().checked_add(after);
        let deadline = NewDeadline { at, grace };
        let accepted = self.record.request_deadline(deadline, || {
            let command = Command::Deadline(Arc::clone(&self.record));
            self.shared.mailbox.send(command).is_ok()
        });
        match accepted {
            true => Ok(()),
            false => Err(self.shared.closed_reason()),
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("pid", &self.pid())
            .field("exit", &self.record.exit())
            .finish_non_exhaustive()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // `abandon` declines if callbacks or queues still need the watch, or the process has ended.
        // A forked child must not take a lock.
        if self.shared.check_process().is_ok() && self.record.drop_handle() {
            self.shared.mailbox.unwatch(Arc::clone(&self.record));
        }
    }
}
