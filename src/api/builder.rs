//! The builder: it checks the options of a watcher and starts its threads.

use std::os::fd::AsFd;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use rustix::event::EventfdFlags;

use super::starters::Starters;
use super::watcher::Threads;
use crate::Watcher;
use crate::backend::{self, Backend, KEYS_MAX};
use crate::dispatch::exit_queue::ExitQueue;
use crate::dispatch::worker;
use crate::error::{BuildError, SystemError};
use crate::faults;
use crate::record::orphan_reaper;
use crate::ring_thread::event_loop::RingThread;
use crate::ring_thread::mailbox::Mailbox;
use crate::shared::{Settings, Shared};
use crate::sync::signal_mask;
use crate::sync::wait_graph::{self, Node};
use crate::sys::{self, SignalMask};
use crate::trace;

const WORKERS_MAX: usize = 1024;
const QUEUE_CAPACITY_MAX: usize = 1 << 24;
const STARTERS_MAX: usize = 64;

/// The options of a [`Watcher`]. [`Watcher::builder`] makes it.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until build() is called"]
pub struct Builder {
    workers: usize,
    queue_capacity: usize,
    max_watches: usize,
    starters: usize,
    usage: bool,
    subreaper: bool,
    backend: Backend,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            workers: 1,
            queue_capacity: 1024,
            max_watches: 1 << 20,
            starters: 2,
            usage: true,
            subreaper: false,
            backend: Backend::Auto,
        }
    }
}

impl Watcher {
    /// Builds a watcher with one worker and the default limits.
    ///
    /// # Errors
    ///
    /// Those of [`Builder::build`].
    pub fn new() -> Result<Self, BuildError> {
        Self::builder().build()
    }

    /// Returns a builder, which sets the number of workers, the limits and the backend.
    pub fn builder() -> Builder {
        Builder::default()
    }
}

impl Builder {
    /// Sets the number of threads that run callbacks: 0 to 1,024; the default is 1.
    ///
    /// Callbacks of different processes run concurrently on different threads. Callbacks of one
    /// process run one after the other.
    ///
    /// With 0, callbacks run on the ring thread, which saves a wake-up. A slow callback then delays
    /// all exits and registrations, and a callback cannot wait for another process
    /// ([`WaitError::WouldDeadlock`](crate::WaitError::WouldDeadlock)).
    pub fn workers(mut self, count: usize) -> Self {
        self.workers = count;
        self
    }

    /// Sets the capacity of the queue to the workers, in exits: 1 to 16,777,216; the default is
    /// 1,024.
    ///
    /// The entries are allocated when the watcher is built: 32 bytes each on 64-bit machines.
    ///
    /// A full queue loses no exit: exits wait in the ring thread until the queue has capacity
    /// again. [`Stats::stalls`](crate::Stats) counts them.
    pub fn queue_capacity(mut self, exits: usize) -> Self {
        self.queue_capacity = exits;
        self
    }

    /// Sets the maximum number of threads that start commands for
    /// [`Watcher::spawn_async`]: 1 to 64; the default is 2. They are started when they are needed.
    ///
    /// A thread blocks until the program is executed, which takes some hundred microseconds, or as
    /// long as the file system takes.
    pub fn starters(mut self, count: usize) -> Self {
        self.starters = count;
        self
    }

    /// Sets the maximum number of concurrent watches: 1 to 268,435,456; the default is 1,048,576.
    ///
    /// At the limit, [`Watcher::watch`] returns
    /// [`WatchError::TooMany`](crate::WatchError::TooMany).
    pub fn max_watches(mut self, count: usize) -> Self {
        self.max_watches = count;
        self
    }

    /// Sets whether the watcher reads the resource usage of children; on by default.
    ///
    /// Without it, [`Exit::usage`](crate::Exit::usage) returns `None`, and the kernel does not add
    /// up the usage when a child is reaped. When thousands of children end at once, that saves some of
    /// the CPU time of each exit (`loadgen compare storm --with exitring,exitring-no-usage`). A child
    /// that ends after the drop of the watcher may have a usage all the same.
    pub fn usage(mut self, usage: bool) -> Self {
        self.usage = usage;
        self
    }

    /// Makes this process the parent of descendants whose parents end (`PR_SET_CHILD_SUBREAPER`,
    /// Linux 3.4, `prctl(2)`), and reaps those that are orphans of owned children. Off by default.
    ///
    /// An orphan is known by the process group that an owned child leads
    /// ([`Command::process_group(0)`](crate::Command::process_group),
    /// [`Command::session`](crate::Command::session)): the watcher reaps the children of this
    /// process in such a group that are not its own: mostly within milliseconds or up to a second of
    /// their end, and while their leader lives every second, or more rarely with more than a hundred
    /// groups. [`Watcher::orphans`] receives their exits. Other children of this
    /// process are left alone, so other code must not put its own children into such a group. A
    /// descendant that has left the group stays a zombie after its end, unless other code reaps it.
    ///
    /// The setting is one of the process: it affects all children, and stays when the watcher is
    /// dropped. Nobody reaps orphans then.
    pub fn subreaper(mut self, subreaper: bool) -> Self {
        self.subreaper = subreaper;
        self
    }

    /// Sets the backend, the kernel interface with which the watcher waits. The default is
    /// [`Backend::Auto`], which tries the interfaces and uses the best one that this process may
    /// use.
    ///
    /// [`Stats::backend`](crate::Stats) names the backend in use, and
    /// [`Stats::fallback`](crate::Stats) the reason why no better one is.
    ///
    /// The environment variable `EXITRING_BACKEND` (`auto`, `uring`, `epoll`, `threads`) replaces
    /// `Auto`. It has no effect if another backend is set here.
    pub fn backend(mut self, backend: Backend) -> Self {
        self.backend = backend;
        self
    }

    /// Builds the watcher and starts its threads: `exitring`, which owns the ring, and
    /// `exitring-w0` and so on, which run callbacks.
    ///
    /// The threads block all signals, except those that a thread raises itself (faults, traps,
    /// `SIGABRT`) and those of profilers (`SIGPROF`, `SIGVTALRM`). Callbacks run with the signal
    /// mask that the calling thread has now.
    ///
    /// Blocks until the ring is set up (well under a millisecond). With io_uring, the soft limit on
    /// descriptors of the process is raised to the hard limit for the duration of one system call.
    /// A child that another thread starts at that moment inherits the raised limit.
    ///
    /// io_uring needs Linux 5.13 (multishot polls, `io_uring_enter(2)`), epoll needs Linux 5.4
    /// (`pidfd_open(2)`, and `P_PIDFD` of `waitid(2)`). The README lists the tested kernels.
    ///
    /// # Errors
    ///
    /// [`BuildError`] names the option that is out of range, what denies the requested backend and
    /// the remedy, or the resource that ran out.
    pub fn build(self) -> Result<Watcher, BuildError> {
        let span = trace::build(self.workers, self.queue_capacity);
        let built = self.start();
        match &built {
            Ok(watcher) => span.built(|| watcher.shared.stats()),
            Err(error) => span.not_built(error),
        }
        built
    }

    fn start(self) -> Result<Watcher, BuildError> {
        check("workers", self.workers, 0, WORKERS_MAX)?;
        check("queue_capacity", self.queue_capacity, 1, QUEUE_CAPACITY_MAX)?;
        check("max_watches", self.max_watches, 1, KEYS_MAX)?;
        check("starters", self.starters, 1, STARTERS_MAX)?;

        orphan_reaper::restart();
        if self.subreaper {
            sys::set_subreaper().map_err(|source| SystemError {
                call: "prctl",
                source,
            })?;
        }
        // Not EFD_NONBLOCK: the eventfd is only polled.
        let notifier =
            sys::open_eventfd(EventfdFlags::CLOEXEC).map_err(BuildError::from_eventfd)?;
        let shared = Arc::new(Shared::new(
            Mailbox::new(notifier, sys::descriptor_limit()),
            ExitQueue::new(self.queue_capacity).map_err(|_| BuildError::OutOfMemory)?,
            Starters::new(self.starters),
            Settings {
                max_watches: self.max_watches,
                inline: self.workers == 0,
                usage: self.usage,
                subreaper: self.subreaper,
            },
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
                #[cfg(test)]
                let plan = faults::plan();
                signal_mask::start_thread(thread, move || {
                    #[cfg(test)]
                    faults::set_plan(plan);
                    worker::run(&shared, node);
                })
            });
            match worker {
                Ok(worker) => threads.push((worker, node)),
                Err(source) => {
                    // Ends the threads that were started.
                    drop(Watcher::from_parts(shared, threads));
                    return Err(BuildError::Thread(source));
                }
            }
        }
        Ok(Watcher::from_parts(shared, threads))
    }
}

/// Starts the ring thread, and waits until it has opened the backend.
///
/// The thread that uses the ring opens it, because the kernel binds a ring to that thread
/// (`IORING_SETUP_SINGLE_ISSUER`). A channel returns the result.
fn start_ring_thread(
    shared: Arc<Shared>,
    requested: Backend,
) -> Result<JoinHandle<()>, BuildError> {
    let (result_sender, result) = mpsc::sync_channel(1);
    #[cfg(test)]
    let plan = faults::plan();
    let thread = faults::inject("clone").and_then(|()| {
        let thread = thread::Builder::new().name("exitring".into());
        signal_mask::start_thread(thread, move || {
            #[cfg(test)]
            faults::set_plan(plan);
            let node = shared.ring_thread;
            let notifier = shared.mailbox.notifier();
            let opened = backend::open(requested, notifier.as_fd(), &shared.stop);
            drop(notifier);
            match opened {
                Ok((engine, selected)) => {
                    shared.set_backend(selected);
                    let builder_mask = shared.signal_mask;
                    let stop = Arc::clone(&shared.stop);
                    let ring_thread = RingThread::new(shared, engine);
                    let _ = result_sender.send(Ok(()));
                    signal_mask::with_builder_mask(builder_mask, || {
                        wait_graph::as_thread(node, &stop, || ring_thread.run());
                    });
                }
                Err(error) => {
                    let _ = result_sender.send(Err(error));
                }
            }
        })
    });
    let thread = thread.map_err(BuildError::Thread)?;
    match result.recv() {
        Ok(Ok(())) => Ok(thread),
        Ok(Err(error)) => {
            let _ = thread.join();
            Err(error)
        }
        // The thread panicked, which the panic hook has reported.
        Err(mpsc::RecvError) => Err(BuildError::Thread(std::io::Error::other(
            "the ring thread panicked while it was set up",
        ))),
    }
}

pub(crate) fn check_capacity(option: &'static str, value: usize) -> Result<(), BuildError> {
    check(option, value, 1, QUEUE_CAPACITY_MAX)
}

/// One entry more is always reserved.
pub(crate) fn check_orphan_capacity(value: usize) -> Result<(), BuildError> {
    check("capacity", value, 1, QUEUE_CAPACITY_MAX - 1)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tagged;
    use crate::dispatch::queued::Queued;

    /// Reads the documentation of `Builder::queue_capacity` and `Watcher::exits`.
    #[cfg(target_pointer_width = "64")]
    #[test]
    fn the_documented_sizes_of_queue_entries_are_true() {
        for (source, bytes) in [
            (include_str!("builder.rs"), ExitQueue::<Queued>::ENTRY_BYTES),
            (include_str!("exits/mod.rs"), size_of::<Tagged>()),
        ] {
            let words = source.split_whitespace().filter(|word| *word != "///");
            let text = words.collect::<Vec<_>>().join(" ");
            let claim = format!(": {bytes} bytes each on 64-bit machines");
            assert!(text.contains(&claim), "an entry takes {bytes} bytes");
        }
    }
}
