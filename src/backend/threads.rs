//! The threads backend, used where pidfds are denied: one waiting thread for each child.
//!
//! Only children that are ours to reap can be watched this way. A wait by pid applies to the
//! process that has the pid, and nothing keeps the pid of any other process from being reused. A
//! thread waits with `WNOWAIT`; the ring thread or a worker reaps, as with the other backends. The number of
//! threads is limited; children beyond it are polled until a thread is free.
//!
//! A child that outlives the watcher keeps its thread until the child ends, because nothing
//! interrupts the wait of a thread.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::engine::{Engine, Event, Gauges, StatusSource, WaitMode, earlier};
use super::retry_queue::RetryQueue;
use super::slots::{PidIdentity, Slots, Stage};
use super::token::{Kind, Token};
use crate::error::{BuildError, NoDescriptors, SystemError};
use crate::faults;
use crate::record::Record;
use crate::record::delivery_guard::DeliveryGuard;
use crate::sync::shrink::ShrinkIfSparse;
use crate::sync::signal_mask;
use crate::sys::{self, WaitResult, WaitTarget};
use crate::types::pid::Pid;

/// The most threads that wait at a time.
const THREADS_MAX: usize = 256;
/// A thread makes one system call.
const STACK_SIZE: usize = 32 << 10;

pub(crate) struct ThreadPerChild {
    reports: Arc<Reports>,
    /// A duplicate of the mailbox's eventfd, so that one wake-up serves mailbox and reports.
    notifier: Arc<OwnedFd>,
    slots: Slots,
    retry_queue: RetryQueue,
    /// Events found while arming; the next wait returns them.
    pending_events: Vec<Event>,
    waits: u64,
}

/// Written by the waiting threads, read by the ring thread.
struct Reports {
    /// Watches whose process has ended.
    ended: Mutex<Vec<Token>>,
    /// Weak, because threads may outlive the watcher and must not keep its descriptor.
    notifier: Weak<OwnedFd>,
    threads: AtomicUsize,
}

impl ThreadPerChild {
    /// Opens the backend. Writing to `eventfd` ends a wait.
    pub(crate) fn open(eventfd: BorrowedFd<'_>) -> Result<Self, BuildError> {
        let notifier = faults::inject("fcntl").and_then(|()| eventfd.try_clone_to_owned());
        let notifier = notifier.map_err(|source| {
            match source.raw_os_error().and_then(NoDescriptors::from_errno) {
                Some(none) => BuildError::from(none),
                None => SystemError {
                    call: "fcntl(F_DUPFD_CLOEXEC)",
                    source,
                }
                .into(),
            }
        })?;
        let notifier = Arc::new(notifier);
        Ok(Self {
            reports: Arc::new(Reports {
                ended: Mutex::default(),
                notifier: Arc::downgrade(&notifier),
                threads: AtomicUsize::new(0),
            }),
            notifier,
            slots: Slots::new(),
            retry_queue: RetryQueue::default(),
            pending_events: Vec::new(),
            waits: 0,
        })
    }

    fn insert(&mut self, guard: DeliveryGuard) -> u32 {
        self.slots
            .insert(guard, PidIdentity::Owned(None), Stage::Retrying)
    }

    /// Starts a thread that waits for the child. If none can be started, polls the child now and
    /// again later.
    fn arm_slot(&mut self, key: u32) {
        let pid = self.slots.get(key).guard.record().pid();
        let token = self.slots.token(key, Kind::Poll);
        if start_thread(&self.reports, token, pid) {
            self.slots.set_stage(key, Stage::Armed);
        } else if matches!(
            sys::waitid(WaitTarget::PeekPid(pid)),
            Ok(WaitResult::Pending)
        ) {
            self.retry_later(key);
        } else {
            self.ended(key);
        }
    }

    fn retry_later(&mut self, key: u32) {
        self.slots.set_stage(key, Stage::Retrying);
        self.retry_queue.push(key);
    }

    fn ended(&mut self, key: u32) {
        let (guard, _) = self.slots.remove(key);
        self.pending_events.push(Event::Ended(
            guard,
            StatusSource::Owned {
                pidfd: None,
                inode: None,
                maybe_reused: false,
            },
        ));
    }
}

impl Engine for ThreadPerChild {
    fn arm(&mut self, guard: DeliveryGuard, pidfd: Option<OwnedFd>) -> io::Result<()> {
        debug_assert!(pidfd.is_none(), "a watch by pidfd is refused earlier");
        let key = self.insert(guard);
        self.arm_slot(key);
        Ok(())
    }

    fn arm_after_delay(&mut self, guard: DeliveryGuard, _: Option<OwnedFd>) -> io::Result<()> {
        let key = self.insert(guard);
        self.retry_later(key);
        Ok(())
    }

    /// Children of ours are never abandoned.
    fn disarm(&mut self, _: &Record) -> io::Result<()> {
        Ok(())
    }

    fn retry_due(&mut self) -> io::Result<()> {
        if self.retry_queue.is_empty() {
            return Ok(());
        }
        let now = Instant::now();
        while let Some(key) = self.retry_queue.pop_due(now) {
            self.arm_slot(key);
        }
        Ok(())
    }

    fn wait(
        &mut self,
        mode: WaitMode,
        timeout: Option<Duration>,
        events: &mut Vec<Event>,
    ) -> io::Result<()> {
        let timeout = match mode == WaitMode::Poll || !self.pending_events.is_empty() {
            true => Some(Duration::ZERO),
            false => {
                let next_retry = self.retry_queue.next_due();
                let next_retry = next_retry.map(|at| at.saturating_duration_since(Instant::now()));
                earlier(timeout, next_retry)
            }
        };
        // A timeout that is too long for the call means no timeout.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        self.waits += 1;
        let mut fds = [PollFd::new(&self.notifier, PollFlags::IN)];
        let polled = faults::inject("poll").and_then(|()| Ok(poll(&mut fds, timeout.as_ref())?));
        match polled {
            Ok(0) => {}
            // A write after this read makes the eventfd readable again; a report made before it is
            // seen below.
            Ok(_) => {
                rustix::io::read(&self.notifier, &mut [0; 8])?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        let reports = &self.reports.ended;
        let ended = std::mem::take(&mut *reports.lock().unwrap_or_else(PoisonError::into_inner));
        for token in ended {
            if let Some(key) = self.slots.find(token) {
                self.ended(key);
            }
        }
        events.append(&mut self.pending_events);
        if mode != WaitMode::Poll {
            self.pending_events.shrink_if_sparse();
            self.slots.shrink();
            self.retry_queue.shrink();
        }
        Ok(())
    }

    /// Nothing is staged: each request is carried out at once.
    fn submit(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn close(&mut self, fd: OwnedFd) -> io::Result<()> {
        drop(fd);
        Ok(())
    }

    fn gauges(&self) -> Gauges {
        Gauges {
            armed: self.slots.armed(),
            open_pidfds: 0,
            enters: self.waits,
        }
    }
}

/// Returns `false` if the limit is reached or no thread can be started.
fn start_thread(reports: &Arc<Reports>, token: Token, pid: Pid) -> bool {
    // Only the ring thread starts threads, so the count does not grow between check and start.
    if reports.threads.load(Ordering::Relaxed) >= THREADS_MAX {
        return false;
    }
    let shared = Arc::clone(reports);
    let thread = thread::Builder::new()
        .name("exitring-wait".into())
        .stack_size(STACK_SIZE);
    reports.threads.fetch_add(1, Ordering::Relaxed);
    let started = faults::inject("clone").and_then(|()| {
        signal_mask::start_thread(thread, move || {
            // The ring thread does not reap the child before this report, so the pid is not reused.
            // If the watcher is gone, the orphan reaper may reap at any time, and then nothing
            // reads the report.
            sys::wait_for_child(pid);
            shared.threads.fetch_sub(1, Ordering::Relaxed);
            let mut ended = shared.ended.lock().unwrap_or_else(PoisonError::into_inner);
            ended.push(token);
            drop(ended);
            if let Some(notifier) = shared.notifier.upgrade() {
                sys::signal_eventfd(&*notifier);
            }
        })
    });
    if started.is_err() {
        reports.threads.fetch_sub(1, Ordering::Relaxed);
    }
    started.is_ok()
}
