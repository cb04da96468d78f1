//! One registration of one process.

use std::fmt;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::callback::{CallbackId, Cancel};
use crate::error::{Closed, SignalError, WaitError};
use crate::exits::Sink;
use crate::future::Exited;
use crate::mailbox::Command;
use crate::record::Record;
use crate::shared::{self, Shared};
use crate::{Exit, Pid};

/// A process being watched.
///
/// Dropping it unregisters: callbacks already added still run, more cannot be added. It may
/// outlive its watcher; then an exit that was seen can still be read.
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
    /// The thread blocks all signals, and a plain `std::process::Command` would hand that on to its child;
    /// [`Watcher::spawn`](crate::Watcher::spawn) does not.
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

    /// Waits for the exit, which may be known before the callbacks have run.
    ///
    /// # Errors
    ///
    /// [`WaitError::Closed`] if the watcher ends first, [`WaitError::WouldDeadlock`] in a
    /// callback on the ring thread (`workers(0)`).
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
    /// It borrows the watch; to hand it on, move the watch along: `async move { watch.exited().await }`.
    pub fn exited(&self) -> Exited<'_> {
        Exited::new(self)
    }

    fn wait_until(&self, until: Option<Instant>) -> Result<Option<Exit>, WaitError> {
        if let Some(exit) = self.record.exit() {
            return Ok(Some(exit.clone()));
        }
        self.shared.check_process()?;
        // Of whatever watcher: its next callback may be what the other one waits for.
        if shared::on_a_ring_thread() {
            return Err(WaitError::WouldDeadlock);
        }
        Ok(self.record.wait(&self.shared, until)?.cloned())
    }
}

/// For the rest of the crate, each with the look whether this is the watcher's process.
impl Watch {
    pub(crate) fn check_process(&self) -> Result<(), Closed> {
        self.shared.check_process()
    }

    pub(crate) fn add_sink(&self, sink: Sink) -> Result<(), Closed> {
        self.record.add_sink(&self.shared, sink)
    }

    pub(crate) fn poll_exit(&self, future: u64, waker: &Waker) -> Option<Result<Exit, Closed>> {
        if let Some(exit) = self.record.exit() {
            return Some(Ok(exit.clone()));
        }
        match self.shared.check_process() {
            Ok(()) => self.record.poll(&self.shared, future, waker),
            Err(closed) => Some(Err(closed)),
        }
    }

    pub(crate) fn forget_future(&self, future: u64) {
        if self.record.exit().is_none() && self.shared.check_process().is_ok() {
            self.record.forget_future(future);
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
        // A time past the end of the clock never comes.
        let at = Instant::now().checked_add(after);
        let command = Command::Deadline(Arc::clone(&self.record), at, grace);
        match self.shared.mailbox.send(command) {
            Ok(()) => Ok(()),
            Err(_) => Err(self.shared.why_closed()),
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
        if self.shared.check_process().is_ok() && self.record.is_unwanted() {
            self.shared.mailbox.unwatch(Arc::clone(&self.record));
        }
    }
}
