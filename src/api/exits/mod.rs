//! [`Exits`]: a queue from which a program receives exits.
//!
//! - `mod.rs`: the public handle, with the ways to receive.
//! - [`iter`]: iterators over a queue.
//!
//! The queue itself is in [`dispatch`](crate::dispatch).

mod iter;

pub use self::iter::{ExitsIntoIter, ExitsIter, ExitsTryIter};

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::api::builder::{check_capacity, check_orphan_capacity};
use crate::dispatch::sink::Sink;
use crate::dispatch::tagged_queue::{ExitsQueue, KeptWatch, State, Tagged};
use crate::error::{AddError, BuildError, Closed, RecvError, RecvTimeoutError, TryRecvError};
use crate::shared::Shared;
use crate::{Watch, Watcher};

/// A bounded queue of exits, each with a tag that the program chooses.
///
/// [`Watcher::exits`] makes it. [`add`](Self::add) a watch, and its exit comes out of the queue
/// once. The capacity limits the outstanding watches: those that were added and whose exit was not
/// received yet. The queue never drops an exit; [`add`](Self::add) refuses further watches
/// ([`AddError::Full`]) until some exits are received.
///
/// The queue is a descriptor ([`AsFd`]) that is readable while there is something to receive. Poll
/// it in any event loop, level-triggered, then receive with [`try_iter`](Self::try_iter). Threads
/// may share the queue; each exit goes to one of them.
///
/// ```
/// use std::process::Command;
/// use exitring::Watcher;
///
/// let watcher = Watcher::new()?;
/// let exits = watcher.exits(16)?;
/// for job in 0..10 {
///     let child = watcher.spawn(Command::new("sh").arg("-c").arg(format!("exit {job}")))?;
///     exits.add(&child, job)?; // the child may be dropped; its exit is delivered anyway
/// }
/// for tagged in exits {
///     let tagged = tagged?;
///     let code = tagged.exit.status().and_then(|status| status.code());
///     assert_eq!(code, Some(tagged.tag as i32));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "the exits in a queue that is dropped are lost"]
pub struct Exits {
    shared: Arc<Shared>,
    queue: Arc<ExitsQueue>,
}

impl Watcher {
    /// Makes a queue of exits for up to `capacity` outstanding watches: 1 to 16,777,216.
    ///
    /// The entries are allocated at once: 96 bytes each on 64-bit machines. An outstanding watch of a
    /// process that is not owned takes 24 more. The queue holds one descriptor (`eventfd(2)`).
    ///
    /// # Errors
    ///
    /// [`BuildError::Option`] if the capacity is out of range, and other variants if no descriptor
    /// or no memory is available.
    pub fn exits(&self, capacity: usize) -> Result<Exits, BuildError> {
        check_capacity("capacity", capacity)?;
        Ok(Exits {
            shared: Arc::clone(&self.shared),
            queue: Arc::new(ExitsQueue::new(capacity)?),
        })
    }
}

impl Watcher {
    /// Makes a queue of the exits of orphans, for up to `capacity` of them: 1 to 16,777,215. The
    /// watcher has to be built with [`Builder::subreaper`](crate::Builder::subreaper).
    ///
    /// The tag of each is the pid of the owned child that led its process group. While the queue is
    /// full, orphans are not reaped. The queue always has an outstanding exit, so that
    /// [`Exits::recv`] waits for the next orphan; at the end of the watcher it returns
    /// [`RecvError::Closed`]. A later queue replaces an earlier one. Without a queue, also after it was
    /// dropped, orphans are reaped and counted ([`Stats::orphans`](crate::Stats::orphans)).
    ///
    /// # Errors
    ///
    /// Those of [`exits`](Self::exits), and [`BuildError::NoSubreaper`].
    pub fn orphans(&self, capacity: usize) -> Result<Exits, BuildError> {
        if !self.shared.settings.subreaper {
            return Err(BuildError::NoSubreaper);
        }
        check_orphan_capacity(capacity)?;
        let exits = self.exits(capacity + 1)?;
        if self.shared.check_process().is_err() {
            // Locks may stay locked forever in a forked child.
            return Ok(exits);
        }
        let queue = &self.shared.orphan_queue;
        // A new queue has capacity.
        let _ = queue.open(&exits.queue, self.shared.ring_thread);
        if self.shared.check_open().is_err() {
            queue.close();
        }
        Ok(exits)
    }
}

impl Exits {
    /// Registers the queue for the exit of a watch, which is delivered at once if the process has
    /// ended.
    ///
    /// The watch may be dropped afterwards: the queue keeps it until the exit is delivered or the
    /// queue is dropped. Watches of any watcher can be added. A watch can be
    /// added more than once; its exit is then delivered once for each time. Does not block.
    ///
    /// # Errors
    ///
    /// [`AddError::Full`] if as many watches are outstanding as the capacity permits,
    /// [`AddError::Closed`] if the exit can never be delivered.
    pub fn add(&self, watch: &Watch, tag: u64) -> Result<(), AddError> {
        self.shared.check_process()?;
        watch.check_process()?;
        let sink = Sink::reserve(&self.queue, tag, watch.ring_thread(), watch.to_keep())?;
        Ok(watch.add_sink(sink)?)
    }

    /// Receives the oldest exit, and blocks until there is one. Returns `None` if no watch is
    /// outstanding.
    ///
    /// # Errors
    ///
    /// [`RecvError::Closed`] if the queue is empty and a watcher ended before one of the
    /// outstanding processes did. [`RecvError::WouldDeadlock`] on the ring thread of any watcher
    /// (in a waker, or in a callback with `workers(0)`), and in a callback for which the ring
    /// thread of an outstanding exit waits.
    pub fn recv(&self) -> Result<Option<Tagged>, RecvError> {
        match self.recv_until(None)? {
            Received::Exit(tagged) => Ok(Some(tagged)),
            // Without a deadline there is no timeout.
            Received::NoneOutstanding | Received::TimedOut => Ok(None),
        }
    }

    /// Receives the oldest exit like [`recv`](Self::recv), and blocks for at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`RecvTimeoutError::Timeout`] if no exit was delivered in time, otherwise those of
    /// [`recv`](Self::recv).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Option<Tagged>, RecvTimeoutError> {
        // A deadline past the end of the clock is the same as none.
        match self.recv_until(Instant::now().checked_add(timeout))? {
            Received::Exit(tagged) => Ok(Some(tagged)),
            Received::NoneOutstanding => Ok(None),
            Received::TimedOut => Err(RecvTimeoutError::Timeout),
        }
    }

    /// Receives the oldest exit if there is one. Returns `None` if no watch is outstanding. Never
    /// blocks.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`] if watches are outstanding and none of their exits was delivered
    /// yet, [`TryRecvError::Closed`] as in [`recv`](Self::recv).
    pub fn try_recv(&self) -> Result<Option<Tagged>, TryRecvError> {
        self.shared.check_process()?;
        let mut state = self.queue.lock();
        if let Some(tagged) = self.queue.pop(&mut state) {
            return Ok(Some(tagged));
        }
        self.check_closed(&mut state)?;
        match state.outstanding() {
            0 => Ok(None),
            _ => Err(TryRecvError::Empty),
        }
    }

    /// Iterates over the exits, oldest first, and blocks for each, until no watch is outstanding.
    ///
    /// An error is an item. It ends the iteration if it would be returned again
    /// ([`RecvError::WouldDeadlock`], [`Closed::ForkedChild`]).
    pub fn iter(&self) -> ExitsIter<'_> {
        ExitsIter::new(self)
    }

    /// Iterates over the exits that are in the queue, oldest first, without blocking. An event loop
    /// calls it when the queue is readable.
    ///
    /// The iterator may yield further exits after it has returned `None`. The end of a watcher is
    /// an item, as in [`try_recv`](Self::try_recv).
    pub fn try_iter(&self) -> ExitsTryIter<'_> {
        ExitsTryIter::new(self)
    }

    /// Receives all exits that are in the queue, at most `max`, and appends them to `batch`. Blocks
    /// until there is at least one.
    ///
    /// Returns the number of exits; 0 if no watch is outstanding or `max` is 0.
    ///
    /// # Errors
    ///
    /// Those of [`recv`](Self::recv).
    pub fn recv_batch(&self, batch: &mut Vec<Tagged>, max: usize) -> Result<usize, RecvError> {
        if max == 0 {
            return Ok(0);
        }
        let Some(first) = self.recv()? else {
            return Ok(0);
        };
        batch.push(first);
        let mut state = self.queue.lock();
        let mut count = 1;
        while count < max {
            let Some(tagged) = self.queue.pop(&mut state) else {
                break;
            };
            batch.push(tagged);
            count += 1;
        }
        Ok(count)
    }

    /// The number of outstanding watches: added, and their exit not received. 0 in a forked child.
    pub fn outstanding(&self) -> usize {
        match self.shared.check_process() {
            Ok(()) => self.queue.lock().outstanding(),
            Err(_) => 0,
        }
    }

    /// The limit on outstanding watches.
    pub fn capacity(&self) -> usize {
        self.queue.capacity()
    }

    fn recv_until(&self, deadline: Option<Instant>) -> Result<Received, RecvError> {
        self.shared.check_process()?;
        let mut state = self.queue.lock();
        loop {
            if let Some(tagged) = self.queue.pop(&mut state) {
                return Ok(Received::Exit(tagged));
            }
            self.check_closed(&mut state)?;
            if state.outstanding() == 0 {
                return Ok(Received::NoneOutstanding);
            }
            let timeout =
                deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if timeout.is_some_and(|timeout| timeout.is_zero()) {
                return Ok(Received::TimedOut);
            }
            state = self.queue.wait_for_change(state, timeout)?;
        }
    }

    /// Reports once that a watcher ended before an outstanding process did. Called when the queue
    /// is empty.
    fn check_closed(&self, state: &mut State) -> Result<(), Closed> {
        if !self.queue.take_closed(state) {
            return Ok(());
        }
        // The watcher that ended may be another one than the watcher that made the queue, which
        // then still runs.
        Err(match self.shared.check_open() {
            Err(closed) => closed,
            Ok(()) => Closed::Dropped,
        })
    }
}

impl Drop for Exits {
    fn drop(&mut self) {
        // A forked child must not take a lock.
        if self.shared.check_process().is_err() {
            return;
        }
        for (_, KeptWatch { record, shared }) in self.queue.drop_receiver() {
            if record.drop_queue() {
                shared.mailbox.unwatch(record);
            }
        }
    }
}

/// The result of a blocking receive.
enum Received {
    Exit(Tagged),
    NoneOutstanding,
    TimedOut,
}

impl AsFd for Exits {
    /// The eventfd, which is readable while there is something to receive. Only poll it; reading it
    /// is up to the queue.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }
}

impl AsRawFd for Exits {
    /// The descriptor of [`as_fd`](Self::as_fd), for event loops that take raw descriptors.
    fn as_raw_fd(&self) -> RawFd {
        self.queue.as_fd().as_raw_fd()
    }
}

impl fmt::Debug for Exits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exits")
            .field("outstanding", &self.outstanding())
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}
