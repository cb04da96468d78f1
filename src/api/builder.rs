//! How a watcher is set up: limits, checked.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use rustix::event::{EventfdFlags, eventfd};

use crate::Watcher;
use crate::backend::{self, Backend, KEYS_MAX};
use crate::dispatch::exit_queue::ExitQueue;
use crate::dispatch::worker;
use crate::error::{BuildError, NoDescriptors, SystemError};
use crate::faults;
use crate::record::orphan_reaper;
use crate::ring_thread::event_loop::RingThread;
use crate::ring_thread::mailbox::Mailbox;
use crate::shared::Shared;
use crate::sync::signal_mask;
use crate::sync::wait_graph::{self, Node};
use crate::sys::{self, SignalMask};

const WORKERS_MAX: usize = 1024;
const QUEUE_CAPACITY_MAX: usize = 1 << 24;

/// Sets up a [`Watcher`]. Made by [`Watcher::builder`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until build() is called"]
pub struct Builder {
    workers: usize,
    queue_capacity: usize,
    max_watches: usize,
    backend: Backend,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            workers: 1,
            queue_capacity: 1024,
            max_watches: 1 << 20,
            backend: Backend::Auto,
        }
    }
}

impl Builder {
    /// How many threads run callbacks: 0 to 1024, 1 by default.
    ///
    /// Callbacks of different processes run at the same time on different threads; those of
    /// one process one after the other. With 0 they run on the ring thread itself, which saves
    /// a wake-up; then a slow callback delays everything, and waiting in one for another process
    /// is refused ([`WaitError::WouldDeadlock`](crate::WaitError::WouldDeadlock)).
    pub fn workers(mut self, count: usize) -> Self {
        self.workers = count;
        self
    }

    /// How many exits may wait for a worker: 1 to 16,777,216, 1,024 by default; allocated at once,
    /// 24 bytes each on 64-bit machines.
    ///
    /// An exit that finds the queue full is not lost: it waits where it is, and
    /// [`Stats::stalls`](crate::Stats) counts it.
    pub fn queue_capacity(mut self, exits: usize) -> Self {
        self.queue_capacity = exits;
        self
    }

    /// How many processes may be watched at a time: 1 to 268,435,456, 1,048,576 by default.
    /// Beyond, [`Watcher::watch`] gives [`WatchError::TooMany`](crate::WatchError::TooMany).
    pub fn max_watches(mut self, count: usize) -> Self {
        self.max_watches = count;
        self
    }

    /// What the watcher waits with: [`Backend::Auto`] by default, which takes the best that this process may
    /// use, found out by trying it. [`Stats::backend`](crate::Stats) says which that was, and
    /// [`Stats::fallback`](crate::Stats) why no better one.
    ///
    /// The environment variable `EXITRING_BACKEND` (`auto`, `uring`, `epoll`, `threads`) decides in place of
    /// `Auto`, and not where another backend is asked for here.
    pub fn backend(mut self, backend: Backend) -> Self {
        self.backend = backend;
        self
    }

    /// Builds the watcher and starts its threads: `exitring`, which owns the ring, and
    /// `exitring-w0` and so on, which run callbacks. All block all signals but those that a thread brings upon itself (faults,
    /// traps, `SIGABRT`) and profilers' (`SIGPROF`, `SIGVTALRM`); in callbacks, what the calling thread blocks now.
    ///
    /// Blocks until the ring is set up (well under a millisecond). Meanwhile, with io_uring, the process's soft limit on
    /// descriptors is raised to the hard one, for as long as one system call takes: a child that another thread starts at that
    /// moment inherits it so.
    ///
    /// # Errors
    ///
    /// [`BuildError`] says what an option must be, what denies io_uring and what to do about
    /// it (if that was asked for), or what ran out. io_uring needs Linux 5.13 (`io_uring_setup(2)`, multishot
    /// polls), epoll 5.4 (`pidfd_open(2)`, and `P_PIDFD` of `waitid(2)`); see the README for the kernels tested.
    pub fn build(self) -> Result<Watcher, BuildError> {
        check("workers", self.workers, 0, WORKERS_MAX)?;
        check("queue_capacity", self.queue_capacity, 1, QUEUE_CAPACITY_MAX)?;
        check("max_watches", self.max_watches, 1, KEYS_MAX)?;

        orphan_reaper::restart();
        // Not EFD_NONBLOCK: it is only ever polled.
        let notifier = open_eventfd(EventfdFlags::CLOEXEC)?;
        let shared = Arc::new(Shared::new(
            Mailbox::new(notifier, sys::descriptor_limit()),
            ExitQueue::new(self.queue_capacity).map_err(|_| BuildError::OutOfMemory)?,
            self.max_watches,
            self.workers == 0,
            SignalMask::of_this_thread(),
        ));

        let mut threads = Threads::new();
        threads.push((
            start_ring_thread(Arc::clone(&shared), self.backend)?,
            shared.ring_thread,
        ));
        for index in 0..self.workers {
            let node = Node::next();
            let worker = faults::inject("clone").and_then(|()| {
                let shared = Arc::clone(&shared);
                let thread = thread::Builder::new().name(format!("exitring-w{index}"));
                signal_mask::start_thread(thread, move || worker::run(&shared, node))
            });
            match worker {
                Ok(worker) => threads.push((worker, node)),
                Err(source) => {
                    // Ends the threads that did start.
                    drop(Watcher::new_from(shared, threads));
                    return Err(BuildError::Thread(source));
                }
            }
        }
        Ok(Watcher::new_from(shared, threads))
    }
}

/// The threads of a watcher, each with what it is in the graph of what waits for what.
pub(crate) type Threads = Vec<(JoinHandle<()>, Node)>;

/// The ring is opened by the thread that will use it, because the kernel ties it to that
/// one (`IORING_SETUP_SINGLE_ISSUER`); how that went comes back through a channel.
fn start_ring_thread(shared: Arc<Shared>, wanted: Backend) -> Result<JoinHandle<()>, BuildError> {
    let (opened, outcome) = mpsc::sync_channel(1);
    #[cfg(test)]
    let plan = faults::plan();
    let thread = faults::inject("clone").and_then(|()| {
        let thread = thread::Builder::new().name("exitring".into());
        signal_mask::start_thread(thread, move || {
            #[cfg(test)]
            faults::set_plan(plan);
            let node = shared.ring_thread;
            let notifier = shared.mailbox.notifier();
            let backend = backend::open(wanted, notifier.as_fd(), &shared.stop);
            drop(notifier);
            match backend {
                Ok((engine, chosen)) => {
                    shared.wait_with(chosen);
                    let builders_mask = shared.signal_mask;
                    let ring_thread = RingThread::new(shared, engine);
                    let _ = opened.send(Ok(()));
                    signal_mask::with_builder_mask(builders_mask, || {
                        wait_graph::as_thread(node, || ring_thread.run());
                    });
                }
                Err(error) => {
                    let _ = opened.send(Err(error));
                }
            }
        })
    });
    let thread = thread.map_err(BuildError::Thread)?;
    match outcome.recv() {
        Ok(Ok(())) => Ok(thread),
        Ok(Err(error)) => {
            let _ = thread.join();
            Err(error)
        }
        // It panicked, which the panic hook has shown.
        Err(mpsc::RecvError) => Err(BuildError::Thread(std::io::Error::other(
            "the ring thread panicked while it was set up",
        ))),
    }
}

pub(crate) fn check_capacity(option: &'static str, value: usize) -> Result<(), BuildError> {
    check(option, value, 1, QUEUE_CAPACITY_MAX)
}

fn check(option: &'static str, value: usize, min: usize, max: usize) -> Result<(), BuildError> {
    match (min..=max).contains(&value) {
        true => Ok(()),
        false => Err(BuildError::Option {
            option,
            value,
            min,
            max,
        }),
    }
}

pub(crate) fn open_eventfd(flags: EventfdFlags) -> Result<OwnedFd, BuildError> {
    let opened = faults::inject("eventfd").and_then(|()| Ok(eventfd(0, flags)?));
    opened.map_err(|source| {
        let errno = source.raw_os_error().unwrap_or(0);
        match NoDescriptors::from_errno(errno) {
            Some(none) => none.into(),
            None if errno == libc::ENOMEM => BuildError::OutOfMemory,
            None => SystemError {
                call: "eventfd",
                source,
            }
            .into(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tagged;
    use crate::record::delivery_guard::DeliveryGuard;

    /// The documentation says what memory a place takes.
    #[cfg(target_pointer_width = "64")]
    #[test]
    fn a_place_in_a_queue_takes_what_is_said() {
        for (says, bytes) in [
            (
                include_str!("builder.rs"),
                ExitQueue::<DeliveryGuard>::ENTRY_BYTES,
            ),
            (include_str!("spawn.rs"), size_of::<Tagged>()),
        ] {
            let text = format!("/// {bytes} bytes each on 64-bit machines");
            let words: Vec<_> = says.split_whitespace().collect();
            assert!(words.join(" ").contains(&text), "it is {bytes} bytes");
        }
    }
}
