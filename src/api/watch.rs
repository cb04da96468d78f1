//! One registration of one process.

use std::fmt;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use crate::api::exits::Sink;
use crate::api::future::Exited;
use crate::error::{Closed, SignalError, WaitError};
use crate::record::{NewDeadline, Record, WakerKey};
use crate::ring_thread::command::Command;
use crate::shared::{self, Shared};
use crate::sync::wait_graph::Node;
use crate::types::callback::{CallbackId, Cancel};
use crate::{Exit, Pid};

/// A process being watched.
///
/// Dropping it unregisters: callbacks already added still run, more cannot be added. It may
/// outlive its watcher; then an exit that was seen can still be read.
#[must_use = "a watch that is dropped is given up, unless it has callbacks or is in a queue of exits"]
pub struct Watch {
    shared: Arc<Shared>,
    record: Arc<Record>,
}

impl Watch {
    pub(crate) fn new(shared: Arc<Shared>, record: Arc<Record>) -> Self {
        Self { shared, record }
    }

    /// The process's id. After it was reaped, the number may be another's.
    pub fn pid(&self) -> Pid {
        self.record.pid()
    }

    /// Has `callback` run once when the process has ended, or soon if it has.
    ///
    /// It runs on a worker thread (with `workers(0)` on the ring thread), never on the caller's, under
    /// no lock of the watcher: it may call everything here, spawn, and drop the watcher. Callbacks of
    /// one process run in the order in which they were added, one at a time. If it panics, that is
    /// counted ([`Stats::panics`](crate::Stats)), shown by the panic hook, and of no consequence to others.
    /// Does not block.
    ///
    /// While it runs, the thread blocks the signals that the builder's thread blocked when the watcher was built, as any thread
    /// that it had started would. So children that are made in it, in whatever way, block just those; and the program's
    /// signal handlers may run on it. (At other times the thread blocks all signals but those that a thread brings upon
    /// itself.) A program that blocks signals in all threads, to wait for them in one, does that before it builds a watcher.
    /// A callback that changes its thread's mask is to change it back.
    ///
    /// # Errors
    ///
    /// [`Closed`] if no thread is left that could run it.
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

    /// Cancels a callback: when this returns, it has run to its end, or never will, and what it
    /// captured has been dropped.
    ///
    /// Blocks while the callback runs. The one exception to all that: a callback that cancels
    /// itself, or one that waits for it in turn, gets [`Cancel::Running`] at once.
    ///
    /// In a forked child: [`Cancel::NotPending`], there it will never run.
    pub fn cancel(&self, id: CallbackId) -> Cancel {
        match self.shared.check_process() {
            Ok(()) => self.record.cancel(id),
            Err(_) => Cancel::NotPending,
        }
    }

    /// The exit, if it was seen. Never blocks.
    pub fn exit(&self) -> Option<Exit> {
        self.record.exit().cloned()
    }

    /// The exit, if it was seen, and whether it still can be. Never blocks.
    ///
    /// # Errors
    ///
    /// [`Closed`] if the watcher ended before: then the exit never comes.
    pub fn try_wait(&self) -> Result<Option<Exit>, Closed> {
        if let Some(exit) = self.record.exit() {
            return Ok(Some(exit.clone()));
        }
        self.shared.check_process()?;
        Ok(self.record.try_wait(&self.shared)?.cloned())
    }

    /// Waits for the exit, which may be known before the callbacks have run.
    ///
    /// # Errors
    ///
    /// [`WaitError::Closed`] if the watcher ends first, [`WaitError::WouldDeadlock`] on the ring thread
    /// of any watcher (in a waker, or with `workers(0)` in a callback), and in a callback that the watcher's ring thread waits for.
    pub fn wait(&self) -> Result<Exit, WaitError> {
        loop {
            if let Some(exit) = self.wait_until(None)? {
                return Ok(exit);
            }
        }
    }

    /// Waits for the exit, for at most this long; `None` if it did not come.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<Option<Exit>, WaitError> {
        // A time past the end of the clock is as good as none.
        self.wait_until(Instant::now().checked_add(timeout))
    }

    /// A future of the exit, for any executor. Dropping it costs nothing; there may be many.
    ///
    /// `(&watch).await` is the same. It borrows the watch; `watch.await` is one that keeps it ([`OwnedExited`](crate::OwnedExited)).
    pub fn exited(&self) -> Exited<'_> {
        Exited::new(self)
    }

    fn wait_until(&self, until: Option<Instant>) -> Result<Option<Exit>, WaitError> {
        if let Some(exit) = self.record.exit() {
            return Ok(Some(exit.clone()));
        }
        self.check_may_wait()?;
        Ok(self.record.wait(&self.shared, until)?.cloned())
    }
}

/// For the rest of the crate, each with the look whether this is the watcher's process.
impl Watch {
    /// Whether a wait would not be refused.
    pub(crate) fn check_may_wait(&self) -> Result<(), WaitError> {
        self.shared.check_process()?;
        // Of whatever watcher: its next callback may be what the other one waits for.
        match shared::is_ring_thread() {
            true => Err(WaitError::WouldDeadlock),
            false => Ok(()),
        }
    }

    pub(crate) fn check_process(&self) -> Result<(), Closed> {
        self.shared.check_process()
    }

    /// Where its exit comes from.
    pub(crate) fn ring_thread(&self) -> Node {
        self.shared.ring_thread
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
        if let Some(key) = key
            && self.record.exit().is_none()
            && self.shared.check_process().is_ok()
        {
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
        if self.record.exit().is_some() && !self.record.group_in_grace() {
            return Ok(());
        }
        self.shared.check_process()?;
        self.shared.check_open()?;
        // A time past the end of the clock never comes.
        let at = Instant::now().checked_add(after);
        let deadline = NewDeadline { at, grace };
        let notified = self.record.request_deadline(deadline, || {
            let command = Command::Deadline(Arc::clone(&self.record));
            self.shared.mailbox.send(command).is_ok()
        });
        match notified {
            true => Ok(()),
            false => Err(self.shared.why_closed()),
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
        // With callbacks left the watch goes on for them; after the exit there is nothing to
        // give up. A forked child must touch no lock.
        if self.shared.check_process().is_ok() && self.record.abandon() {
            self.shared.mailbox.unwatch(Arc::clone(&self.record));
        }
    }
}
