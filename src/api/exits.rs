//! Exits to be fetched, instead of callbacks to be called.

mod iter;

pub use self::iter::{ExitsIntoIter, ExitsIter, ExitsTryIter};

use std::collections::VecDeque;
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::EventfdFlags;

use crate::api::builder::open_eventfd;
use crate::error::{AddError, BuildError, Closed, RecvError, RecvTimeoutError, TryRecvError};
use crate::shared::{self, Shared};
use crate::sync::wait_graph::{self, Node};
use crate::{Exit, Watch, sys};

/// A queue that exits come into, each with a tag of yours.
///
/// Made by [`Watcher::exits`](crate::Watcher::exits). [`add`](Self::add) a watch, and its exit comes
/// out once. It has room for so many watches at a time: added, and their exit not fetched yet. So it
/// is bounded and never drops one; more are refused ([`AddError::Full`]) until some were fetched.
///
/// It is readable, as a descriptor ([`AsFd`]), while there is something to fetch: poll it in any event
/// loop, level-triggered, then fetch with [`try_iter`](Self::try_iter). May be shared by threads; each exit goes to one.
///
/// ```
/// use std::process::Command;
/// use exitring::Watcher;
///
/// let watcher = Watcher::new()?;
/// let exits = watcher.exits(16)?;
/// for job in 0..10 {
///     let child = watcher.spawn(Command::new("sh").arg("-c").arg(format!("exit {job}")))?;
///     exits.add(&child, job)?; // the child may go: its exit comes all the same
/// }
/// for tagged in exits {
///     let tagged = tagged?;
///     let code = tagged.exit.status().and_then(|status| status.code());
///     assert_eq!(code, Some(tagged.tag as i32));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "exits that nobody fetches are lost"]
pub struct Exits {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
}

/// An exit, and the tag that its watch was added with.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tagged {
    /// What [`Exits::add`] was given.
    pub tag: u64,
    /// The exit.
    pub exit: Exit,
}

struct Queue {
    inner: Mutex<Inner>,
    filled: Condvar,
    /// Readable while `ready` is not empty, or nothing will come any more.
    notifier: OwnedFd,
    capacity: usize,
}

struct Inner {
    /// Allocated once: as long as there are places.
    ready: VecDeque<Tagged>,
    /// Added, and not fetched: those in `ready`, and those that have not ended.
    outstanding: usize,
    /// Watches whose exit will not come, because the watcher is gone.
    forsaken: bool,
    /// The ring threads that the others are to come from, with how many each.
    awaited: Vec<(Node, usize)>,
    waiters: u32,
    /// Of these, the ones that have announced what they wait for.
    announced: u32,
    rung: bool,
}

impl Exits {
    pub(crate) fn new(shared: Arc<Shared>, capacity: usize) -> Result<Self, BuildError> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let notifier = open_eventfd(flags)?;
        let mut ready = VecDeque::new();
        ready
            .try_reserve_exact(capacity)
            .map_err(|_| BuildError::OutOfMemory)?;
        let queue = Queue {
            inner: Mutex::new(Inner {
                ready,
                outstanding: 0,
                forsaken: false,
                awaited: Vec::new(),
                waiters: 0,
                announced: 0,
                rung: false,
            }),
            filled: Condvar::new(),
            notifier,
            capacity,
        };
        Ok(Self {
            shared,
            queue: Arc::new(queue),
        })
    }

    /// Has the watch's exit come here, at once if the process has ended. The watch may then be dropped. Any
    /// watch of any watcher will do, and may be added more than once, with as many exits.
    ///
    /// # Errors
    ///
    /// [`AddError::Full`] if as many are outstanding as there is room for, [`AddError::Closed`] if
    /// the exit can never come.
    pub fn add(&self, watch: &Watch, tag: u64) -> Result<(), AddError> {
        self.shared.check_process()?;
        watch.check_process()?;
        let sink = self.queue.reserve(tag, watch.ring_thread())?;
        Ok(watch.add_sink(sink)?)
    }

    /// Fetches the oldest exit, waiting for one. `None`: nothing is outstanding, so nothing would
    /// ever come.
    ///
    /// # Errors
    ///
    /// [`RecvError::Closed`] if nothing is left and a watcher ended before some process did,
    /// [`RecvError::WouldDeadlock`] on the ring thread of any watcher (in a waker, or with `workers(0)` in a
    /// callback), and in a callback that a ring thread waits for which is to bring one of the exits.
    pub fn recv(&self) -> Result<Option<Tagged>, RecvError> {
        match self.recv_until(None)? {
            Fetched::Exit(tagged) => Ok(Some(tagged)),
            // Without a time there is no time-out.
            Fetched::Nothing | Fetched::NotYet => Ok(None),
        }
    }

    /// As [`recv`](Self::recv), for at most this long.
    ///
    /// # Errors
    ///
    /// [`RecvTimeoutError::Timeout`] if none came in time, else as [`recv`](Self::recv).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Option<Tagged>, RecvTimeoutError> {
        // A time past the end of the clock is as good as none.
        match self.recv_until(Instant::now().checked_add(timeout))? {
            Fetched::Exit(tagged) => Ok(Some(tagged)),
            Fetched::Nothing => Ok(None),
            Fetched::NotYet => Err(RecvTimeoutError::Timeout),
        }
    }

    /// Fetches the oldest exit if there is one. `None`: nothing is outstanding. Never blocks.
    ///
    /// # Errors
    ///
    /// [`TryRecvError::Empty`] if exits are outstanding and none has come, [`TryRecvError::Closed`] as [`recv`](Self::recv).
    pub fn try_recv(&self) -> Result<Option<Tagged>, TryRecvError> {
        self.shared.check_process()?;
        let mut inner = self.queue.lock();
        if let Some(tagged) = self.queue.fetch(&mut inner) {
            return Ok(Some(tagged));
        }
        self.check_abandoned(&mut inner)?;
        match inner.outstanding {
            0 => Ok(None),
            _ => Err(TryRecvError::Empty),
        }
    }

    /// The exits, oldest first, each waited for, until nothing is outstanding.
    ///
    /// An error is an item, and ends the iteration if it would come again ([`RecvError::WouldDeadlock`],
    /// [`Closed::ForkedChild`]).
    pub fn iter(&self) -> ExitsIter<'_> {
        ExitsIter(Some(self))
    }

    /// The exits that have come, oldest first, without waiting: what an event loop fetches when the queue is readable. More may come
    /// after its end.
    ///
    /// That a watcher ended is an item, as [`try_recv`](Self::try_recv) has it.
    pub fn try_iter(&self) -> ExitsTryIter<'_> {
        ExitsTryIter(Some(self))
    }

    /// Fetches all exits there are, `max` at most, into `batch`, waiting for the first. Returns how
    /// many; 0: nothing is outstanding, or `max` is 0.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn recv_batch(&self, batch: &mut Vec<Tagged>, max: usize) -> Result<usize, RecvError> {
        if max == 0 {
            return Ok(0);
        }
        let Some(first) = self.recv()? else {
            return Ok(0);
        };
        batch.push(first);
        let mut inner = self.queue.lock();
        let mut count = 1;
        while count < max
            && let Some(tagged) = self.queue.fetch(&mut inner)
        {
            batch.push(tagged);
            count += 1;
        }
        Ok(count)
    }

    /// How many were added and not fetched.
    pub fn outstanding(&self) -> usize {
        match self.shared.check_process() {
            Ok(()) => self.queue.lock().outstanding,
            Err(_) => 0,
        }
    }

    /// How many may be outstanding.
    pub fn capacity(&self) -> usize {
        self.queue.capacity
    }

    fn recv_until(&self, until: Option<Instant>) -> Result<Fetched, RecvError> {
        self.shared.check_process()?;
        let mut inner = self.queue.lock();
        loop {
            if let Some(tagged) = self.queue.fetch(&mut inner) {
                return Ok(Fetched::Exit(tagged));
            }
            self.check_abandoned(&mut inner)?;
            let now = Instant::now();
            if inner.outstanding == 0 {
                return Ok(Fetched::Nothing);
            }
            if until.is_some_and(|until| until <= now) {
                return Ok(Fetched::NotYet);
            }
            // Of whatever watcher: it may be the one whose exits are to come.
            if shared::is_ring_thread() {
                return Err(RecvError::WouldDeadlock);
            }
            // Anew in each round: what is awaited may have changed.
            let ring_threads = inner.awaited.iter().map(|(ring_thread, _)| *ring_thread);
            let waiting = wait_graph::wait_for_any(ring_threads).ok_or(RecvError::WouldDeadlock)?;
            let announced = u32::from(waiting.is_announced());
            inner.waiters += 1;
            inner.announced += announced;
            inner = match until {
                None => self
                    .queue
                    .filled
                    .wait(inner)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    self.queue
                        .filled
                        .wait_timeout(inner, until - now)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
            inner.waiters -= 1;
            inner.announced -= announced;
            drop(waiting);
        }
    }

    /// Tells once that a watch will bring nothing; asked when there is nothing to fetch.
    fn check_abandoned(&self, inner: &mut Inner) -> Result<(), Closed> {
        if !std::mem::take(&mut inner.forsaken) {
            return Ok(());
        }
        self.queue.clear_readable(inner);
        // It may have been another watcher than the one that made us, which then serves on.
        Err(match self.shared.check_open() {
            Err(closed) => closed,
            Ok(()) => Closed::Dropped,
        })
    }
}

/// What a wait for an exit found.
enum Fetched {
    Exit(Tagged),
    /// Nothing is outstanding.
    Nothing,
    /// The time is over.
    NotYet,
}

impl AsFd for Exits {
    /// Readable while there is something to fetch. Only to be polled: reading it is ours.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.notifier.as_fd()
    }
}

impl AsRawFd for Exits {
    /// As [`as_fd`](Self::as_fd), for event loops that want it so.
    fn as_raw_fd(&self) -> RawFd {
        self.queue.notifier.as_raw_fd()
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

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing under the lock panics half-way.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reserve(self: &Arc<Self>, tag: u64, ring_thread: Node) -> Result<Sink, AddError> {
        let mut inner = self.lock();
        if inner.outstanding == self.capacity {
            return Err(AddError::Full {
                capacity: self.capacity,
            });
        }
        inner.outstanding += 1;
        match inner
            .awaited
            .iter_mut()
            .find(|(other, _)| *other == ring_thread)
        {
            Some((_, count)) => *count += 1,
            None => {
                inner.awaited.push((ring_thread, 1));
                self.update_awaited(&inner);
            }
        }
        Ok(Sink {
            queue: Some(Arc::clone(self)),
            ring_thread,
            tag,
        })
    }

    /// One exit fewer is to come from the ring thread.
    fn exit_arrived(&self, inner: &mut Inner, ring_thread: Node) {
        let mut awaited = inner.awaited.iter_mut().enumerate();
        let Some((index, (_, count))) = awaited.find(|(_, (other, _))| *other == ring_thread)
        else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            inner.awaited.swap_remove(index);
            self.update_awaited(inner);
        }
    }

    /// Whoever waits has announced what for, and does so anew.
    fn update_awaited(&self, inner: &Inner) {
        if inner.announced > 0 {
            self.filled.notify_all();
        }
    }

    fn fetch(&self, inner: &mut Inner) -> Option<Tagged> {
        let tagged = inner.ready.pop_front()?;
        inner.outstanding -= 1;
        if inner.ready.is_empty() && !inner.forsaken {
            self.clear_readable(inner);
        }
        if inner.outstanding == 0 && inner.waiters > 0 {
            // Others that wait would wait for ever.
            self.filled.notify_all();
        }
        Some(tagged)
    }

    fn clear_readable(&self, inner: &mut Inner) {
        if std::mem::take(&mut inner.rung) {
            // Nonblocking, and readable just now: resets it.
            let _ = rustix::io::read(&self.notifier, &mut [0; 8]);
        }
    }

    fn ring(&self, inner: &mut Inner) {
        if !inner.rung {
            inner.rung = true;
            sys::ring_eventfd(&self.notifier);
        }
    }
}

/// A place in a queue, for one exit. Dropped without it, it is given back, and the queue told.
pub(crate) struct Sink {
    queue: Option<Arc<Queue>>,
    /// Where the exit is to come from.
    ring_thread: Node,
    tag: u64,
}

impl Sink {
    /// Puts the exit into its place. Never waits: the place is reserved.
    pub(crate) fn put(mut self, exit: &Exit) {
        let Some(queue) = self.queue.take() else {
            return;
        };
        let mut inner = queue.lock();
        queue.exit_arrived(&mut inner, self.ring_thread);
        inner.ready.push_back(Tagged {
            tag: self.tag,
            exit: exit.clone(),
        });
        queue.ring(&mut inner);
        if inner.waiters > 0 {
            queue.filled.notify_one();
        }
    }
}

impl Sink {
    /// Gives the place back: nothing was to come, and nobody is to be told.
    pub(crate) fn give_back(mut self) {
        if let Some(queue) = self.queue.take() {
            let mut inner = queue.lock();
            queue.exit_arrived(&mut inner, self.ring_thread);
            inner.outstanding -= 1;
            if inner.waiters > 0 {
                queue.filled.notify_all();
            }
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.take() {
            let mut inner = queue.lock();
            queue.exit_arrived(&mut inner, self.ring_thread);
            inner.outstanding -= 1;
            inner.forsaken = true;
            queue.ring(&mut inner);
            queue.filled.notify_all();
        }
    }
}
