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

use super::engine::{Engine, Event, Evidence, Gauges, Patience, earlier};
use super::resting::Resting;
use super::slots::{Hold, Slots, Stage};
use super::token::{Kind, Token};
use crate::Pid;
use crate::duty::Duty;
use crate::error::{BuildError, NoDescriptors, SystemError};
use crate::faults;
use crate::record::Record;
use crate::shrink::ShrinkIfSparse;
use crate::signal_mask;
use crate::sys::{self, Ask, Waited};

/// How many threads wait at most.
const THREADS_MAX: usize = 256;
/// A thread makes one system call.
const STACK: usize = 32 << 10;

pub(crate) struct Waiters {
    reports: Arc<Reports>,
    /// The mailbox's, too: who is woken looks at both.
    bell: Arc<OwnedFd>,
    slots: Slots,
    resting: Resting,
    /// Found out while arming and disarming; the next wait tells them.
    early: Vec<Event>,
    waits: u64,
}

/// What the threads say.
struct Reports {
    /// Whose process has ended.
    ended: Mutex<Vec<Token>>,
    /// Threads may outlive the watcher, and are not to keep a descriptor of it.
    bell: Weak<OwnedFd>,
    threads: AtomicUsize,
}

impl Waiters {
    /// `eventfd` wakes it.
    pub(crate) fn open(eventfd: BorrowedFd<'_>) -> Result<Self, BuildError> {
        let bell = faults::strike("fcntl").and_then(|()| eventfd.try_clone_to_owned());
        let bell = bell.map_err(|source| {
            match source.raw_os_error().and_then(NoDescriptors::from_errno) {
                Some(none) => BuildError::from(none),
                None => SystemError {
                    call: "fcntl(F_DUPFD_CLOEXEC)",
                    source,
                }
                .into(),
            }
        })?;
        let bell = Arc::new(bell);
        Ok(Self {
            reports: Arc::new(Reports {
                ended: Mutex::default(),
                bell: Arc::downgrade(&bell),
                threads: AtomicUsize::new(0),
            }),
            bell,
            slots: Slots::new(),
            resting: Resting::default(),
            early: Vec::new(),
            waits: 0,
        })
    }

    fn insert(&mut self, duty: Duty) -> u32 {
        self.slots.insert(duty, Hold::Owned(None), Stage::Resting)
    }

    /// Has a thread wait for it; if there is none to be had, looks, and looks again later.
    fn rearm(&mut self, key: u32) {
        let pid = self.slots.get(key).duty.record().pid();
        let token = self.slots.token(key, Kind::Poll);
        if start_thread(&self.reports, token, pid) {
            self.slots.set_stage(key, Stage::Armed);
        } else if matches!(sys::waitid(Ask::LookAtChild(pid)), Ok(Waited::NotYet)) {
            self.rest(key);
        } else {
            self.ended(key);
        }
    }

    fn rest(&mut self, key: u32) {
        self.slots.set_stage(key, Stage::Resting);
        self.resting.push(key);
    }

    fn ended(&mut self, key: u32) {
        let (duty, _) = self.slots.remove(key);
        self.early.push(Event::Ended(
            duty,
            Evidence::Owned {
                pidfd: None,
                inode: None,
                late: false,
            },
        ));
    }
}

impl Engine for Waiters {
    fn arm(&mut self, duty: Duty, pidfd: Option<OwnedFd>) -> io::Result<()> {
        debug_assert!(pidfd.is_none(), "a watch by pidfd is refused before");
        let key = self.insert(duty);
        self.rearm(key);
        Ok(())
    }

    fn arm_later(&mut self, duty: Duty, _: Option<OwnedFd>) -> io::Result<()> {
        let key = self.insert(duty);
        self.rest(key);
        Ok(())
    }

    /// Children of ours are never given up.
    fn disarm(&mut self, _: &Record) -> io::Result<()> {
        Ok(())
    }

    fn wait(
        &mut self,
        patience: Patience,
        timeout: Option<Duration>,
        events: &mut Vec<Event>,
    ) -> io::Result<()> {
        let now = Instant::now();
        while let Some(key) = self.resting.pop_due(now) {
            self.rearm(key);
        }
        let timeout = match patience == Patience::None || !self.early.is_empty() {
            true => Some(Duration::ZERO),
            false => {
                let rest = self.resting.next();
                earlier(timeout, rest.map(|at| at.saturating_duration_since(now)))
            }
        };
        // A time that is too long for the call is as good as for ever.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        self.waits += 1;
        let mut bells = [PollFd::new(&self.bell, PollFlags::IN)];
        let rung = faults::strike("poll").and_then(|()| Ok(poll(&mut bells, timeout.as_ref())?));
        match rung {
            Ok(0) => {}
            // What is rung after this read is another ring; what was reported before it is seen below.
            Ok(_) => {
                rustix::io::read(&self.bell, &mut [0; 8])?;
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
        if patience != Patience::None {
            self.early.shrink_if_sparse();
            self.slots.shrink();
            self.resting.shrink();
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
    let started = faults::strike("clone").and_then(|()| {
        signal_mask::start_thread(thread, move || {
            // It is not reaped before this is reported (or, the watcher being gone, by the orphanage; then
            // nobody hears the report), so the pid is no other's.
            sys::wait_for_child(pid);
            shared.threads.fetch_sub(1, Ordering::Relaxed);
            let mut ended = shared.ended.lock().unwrap_or_else(PoisonError::into_inner);
            ended.push(token);
            drop(ended);
            if let Some(bell) = shared.bell.upgrade() {
                sys::ring_eventfd(&*bell);
            }
        })
    });
    if started.is_err() {
        reports.threads.fetch_sub(1, Ordering::Relaxed);
    }
    started.is_ok()
}
