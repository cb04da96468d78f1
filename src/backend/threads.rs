//! The last resort, for where no pidfd can be had: a thread for each child of ours, which waits for it.
//!
//! Only children that are ours to reap can be watched so: a wait by pid means whoever has the pid, and for
//! others there is nothing that keeps it from becoming another's. A thread only looks (`WNOWAIT`); the reaping is
//! the ring thread's as ever. There are so many threads and no more; children beyond are looked at
//! every now and then, until a thread is free.
//!
//! A child that outlives the watcher keeps its thread until it ends: nothing wakes a thread out of a wait.

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
use crate::Pid;
use crate::error::{BuildError, NoDescriptors, SystemError};
use crate::faults;
use crate::record::Record;
use crate::record::delivery_guard::DeliveryGuard;
use crate::sync::shrink::ShrinkIfSparse;
use crate::sync::signal_mask;
use crate::sys::{self, WaitResult, WaitTarget};

/// How many threads wait at most.
const THREADS_MAX: usize = 256;
/// A thread makes one system call.
const STACK: usize = 32 << 10;

pub(crate) struct ThreadWaiters {
    reports: Arc<Reports>,
    /// The mailbox's, too: who is woken looks at both.
    notifier: Arc<OwnedFd>,
    slots: Slots,
    retry_queue: RetryQueue,
    /// Found out while arming and disarming; the next wait tells them.
    early: Vec<Event>,
    waits: u64,
}

/// What the threads say.
struct Reports {
    /// Whose process has ended.
    ended: Mutex<Vec<Token>>,
    /// Threads may outlive the watcher, and are not to keep a descriptor of it.
    notifier: Weak<OwnedFd>,
    threads: AtomicUsize,
}

impl ThreadWaiters {
    /// `eventfd` wakes it.
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
            early: Vec::new(),
            waits: 0,
        })
    }

    fn insert(&mut self, guard: DeliveryGuard) -> u32 {
        self.slots
            .insert(guard, PidIdentity::Owned(None), Stage::RetryQueue)
    }

    /// Has a thread wait for it; if there is none to be had, looks, and looks again later.
    fn rearm(&mut self, key: u32) {
        let pid = self.slots.get(key).guard.record().pid();
        let token = self.slots.token(key, Kind::Poll);
        if start_thread(&self.reports, token, pid) {
            self.slots.set_stage(key, Stage::Armed);
        } else if matches!(
            sys::waitid(WaitTarget::PeekPid(pid)),
            Ok(WaitResult::Pending)
        ) {
            self.rest(key);
        } else {
            self.ended(key);
        }
    }

    fn rest(&mut self, key: u32) {
        self.slots.set_stage(key, Stage::RetryQueue);
        self.retry_queue.push(key);
    }

    fn ended(&mut self, key: u32) {
        let (guard, _) = self.slots.remove(key);
        self.early.push(Event::Ended(
            guard,
            StatusSource::Owned {
                pidfd: None,
                inode: None,
                late: false,
            },
        ));
    }
}

impl Engine for ThreadWaiters {
    fn arm(&mut self, guard: DeliveryGuard, pidfd: Option<OwnedFd>) -> io::Result<()> {
        debug_assert!(pidfd.is_none(), "a watch by pidfd is refused before");
        let key = self.insert(guard);
        self.rearm(key);
        Ok(())
    }

    fn arm_after_delay(&mut self, guard: DeliveryGuard, _: Option<OwnedFd>) -> io::Result<()> {
        let key = self.insert(guard);
        self.rest(key);
        Ok(())
    }

    /// Children of ours are never given up.
    fn disarm(&mut self, _: &Record) -> io::Result<()> {
        Ok(())
    }

    fn wait(
        &mut self,
        mode: WaitMode,
        timeout: Option<Duration>,
        events: &mut Vec<Event>,
    ) -> io::Result<()> {
        let now = Instant::now();
        while let Some(key) = self.retry_queue.pop_due(now) {
            self.rearm(key);
        }
        let timeout = match mode == WaitMode::Poll || !self.early.is_empty() {
            true => Some(Duration::ZERO),
            false => {
                let rest = self.retry_queue.next();
                earlier(timeout, rest.map(|at| at.saturating_duration_since(now)))
            }
        };
        // A time that is too long for the call is as good as for ever.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        self.waits += 1;
        let mut bells = [PollFd::new(&self.notifier, PollFlags::IN)];
        let rung = faults::inject("poll").and_then(|()| Ok(poll(&mut bells, timeout.as_ref())?));
        match rung {
            Ok(0) => {}
            // What is rung after this read is another ring; what was reported before it is seen below.
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
        events.append(&mut self.early);
        if mode != WaitMode::Poll {
            self.early.shrink_if_sparse();
            self.slots.shrink();
            self.retry_queue.shrink();
        }
        Ok(())
    }

    /// Everything was carried out when it was asked for.
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
            held: 0,
            enters: self.waits,
        }
    }
}

/// `false`: there are enough, or none can be had.
fn start_thread(reports: &Arc<Reports>, token: Token, pid: Pid) -> bool {
    // Started by the ring thread alone, so the count does not grow between the look and the start.
    if reports.threads.load(Ordering::Relaxed) >= THREADS_MAX {
        return false;
    }
    let shared = Arc::clone(reports);
    let thread = thread::Builder::new()
        .name("exitring-wait".into())
        .stack_size(STACK);
    reports.threads.fetch_add(1, Ordering::Relaxed);
    let started = faults::inject("clone").and_then(|()| {
        signal_mask::start_thread(thread, move || {
            // It is not reaped before this is reported (or, the watcher being gone, by the orphanage; then
            // nobody hears the report), so the pid is no other's.
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
