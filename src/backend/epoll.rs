//! The epoll backend, used where io_uring is denied.
//!
//! Closing a pidfd removes it from its epoll, so each pidfd stays open until its process has ended.
//! Compared with io_uring, this costs a descriptor for each watch; system calls to add, remove and
//! close it; and a slower spawn, because each spawn copies the descriptor table. All else is the
//! same.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::engine::{Engine, Event, Gauges, StatusSource, WaitMode, earlier, is_no_process};
use super::probe;
use super::retry_queue::RetryQueue;
use super::slots::{PidIdentity, Slots, Stage};
use super::token::{Kind, Token};
use crate::error::{BuildError, NoDescriptors, SystemError};
use crate::faults;
use crate::record::delivery_guard::DeliveryGuard;
use crate::record::{Ownership, Record, WatchFor};
use crate::ring_thread::mailbox::pidfds_max;
use crate::sync::shrink::ShrinkIfSparse;
use crate::sys::{self, WaitResult, WaitTarget};

/// The most events that one wait returns.
const EVENTS: usize = 256;
/// How many descriptors are left at least to the rest of the program.
const OTHER_DESCRIPTORS: usize = 32;

pub(crate) struct Epoll {
    epoll: OwnedFd,
    slots: Slots,
    retry_queue: RetryQueue,
    /// Events found while arming and disarming; the next wait returns them.
    pending_events: Vec<Event>,
    ready: Vec<epoll::Event>,
    open_pidfds: usize,
    /// Once this many pidfds are open, children of ours are watched without one, so that the
    /// remaining descriptors stay available to the rest of the program.
    open_pidfds_max: usize,
    waits: u64,
}

impl Epoll {
    /// Opens the backend. Writing to `eventfd`, which must outlive the backend, ends a wait.
    pub(crate) fn open(eventfd: BorrowedFd<'_>) -> Result<Self, BuildError> {
        let epoll = faults::inject("epoll_create1")
            .and_then(|()| Ok(epoll::create(CreateFlags::CLOEXEC)?))
            .map_err(|error| denied("epoll_create1", error))?;
        let add_wake = |fd: BorrowedFd<'_>, flags| {
            add(&epoll, fd, Token::WAKE, flags).map_err(|error| denied("epoll_ctl", error))
        };
        // Trying is the only way to know whether pidfds can be opened and polled.
        let me = probe::own_pidfd()?;
        add_wake(me.as_fd(), EventFlags::IN)?;
        epoll::delete(&epoll, &me).map_err(|errno| denied("epoll_ctl", errno.into()))?;
        // Edge-triggered: each write to the eventfd is one event, and its counter is never read.
        add_wake(eventfd, EventFlags::IN | EventFlags::ET)?;
        let limit = sys::descriptor_limit();
        Ok(Self {
            epoll,
            slots: Slots::new(),
            retry_queue: RetryQueue::default(),
            pending_events: Vec::new(),
            ready: Vec::with_capacity(EVENTS),
            open_pidfds: 0,
            open_pidfds_max: open_pidfds_max(limit),
            waits: 0,
        })
    }

    fn insert(&mut self, guard: DeliveryGuard, pidfd: Option<OwnedFd>) -> u32 {
        let owned = guard.record().ownership() == Ownership::Owned;
        let pidfd = pidfd.filter(|_| !owned || self.open_pidfds < self.open_pidfds_max);
        self.open_pidfds += usize::from(pidfd.is_some());
        let identity = pidfd.map_or(PidIdentity::Owned(None), PidIdentity::Pidfd);
        self.slots.insert(guard, identity, Stage::Retrying)
    }

    /// Arms the watch in a slot.
    fn arm_slot(&mut self, key: u32) {
        if let PidIdentity::Owned(_) = self.slots.get(key).identity {
            if self.open_pidfds >= self.open_pidfds_max {
                return self.arm_without_descriptor(key);
            }
            match sys::pidfd_open(self.slots.get(key).guard.record().pid()) {
                Ok(pidfd) => {
                    let status = sys::waitid(WaitTarget::PeekPidfd(pidfd.as_fd()));
                    self.slots.get(key).identity = PidIdentity::Pidfd(pidfd);
                    self.open_pidfds += 1;
                    match status {
                        // Another part of the program reaped the child, and its pid may be reused.
                        Ok(WaitResult::NoChild) => return self.ended(key, true),
                        Ok(WaitResult::Ended(..)) => return self.ended(key, false),
                        _ => {}
                    }
                }
                // Another part of the program reaped the child.
                Err(error) if is_no_process(&error) => return self.ended(key, true),
                Err(_) => return self.arm_without_descriptor(key),
            }
        }
        let token = self.slots.token(key, Kind::Poll);
        let slot = self.slots.get(key);
        let flags = match slot.guard.record().watch_for() {
            WatchFor::Exited => EventFlags::IN,
            // The kernel always reports EPOLLHUP, so an empty mask waits for nothing else (Linux
            // 6.9).
            WatchFor::Reaped => EventFlags::empty(),
        };
        let PidIdentity::Pidfd(pidfd) = &slot.identity else {
            return;
        };
        match add(&self.epoll, pidfd.as_fd(), token, flags) {
            Ok(()) => self.slots.set_stage(key, Stage::Armed),
            // ENOMEM, or ENOSPC (fs.epoll.max_user_watches).
            Err(_) => self.arm_without_descriptor(key),
        }
    }

    /// Handles a watch that cannot be armed for lack of a descriptor, memory or epoll capacity.
    /// Whether the process has ended can be checked without any of them.
    fn arm_without_descriptor(&mut self, key: u32) {
        let slot = self.slots.get(key);
        let record = slot.guard.record();
        if record.ownership() == Ownership::Owned {
            return match sys::waitid(WaitTarget::PeekPid(record.pid())) {
                Ok(WaitResult::Pending) => self.retry_later(key),
                _ => self.ended(key, false),
            };
        }
        let flags = match &slot.identity {
            PidIdentity::Pidfd(pidfd) => poll_now(pidfd),
            _ => PollFlags::empty(),
        };
        let reaped = flags.contains(PollFlags::HUP);
        match reaped || record.watch_for() == WatchFor::Exited && flags.contains(PollFlags::IN) {
            true => self.ended(key, reaped),
            false => self.retry_later(key),
        }
    }

    fn retry_later(&mut self, key: u32) {
        self.slots.set_stage(key, Stage::Retrying);
        self.retry_queue.push(key);
    }

    /// Reports the end of a process. `reaped`: it has been reaped, so its pid no longer yields a
    /// status.
    fn ended(&mut self, key: u32, reaped: bool) {
        let (guard, identity) = self.remove(key);
        let source = match (identity, guard.record().ownership()) {
            (PidIdentity::Pidfd(pidfd), Ownership::Child | Ownership::NotChild) => {
                StatusSource::Pidfd(pidfd)
            }
            _ if reaped => StatusSource::Reaped,
            (identity, _) => StatusSource::Owned {
                pidfd: match identity {
                    PidIdentity::Pidfd(pidfd) => Some(pidfd),
                    _ => None,
                },
                inode: None,
                maybe_reused: false,
            },
        };
        self.pending_events.push(Event::Ended(guard, source));
    }

    fn disarmed(&mut self, key: u32) {
        let _abandoned = self.remove(key);
        self.pending_events.push(Event::Disarmed);
    }

    /// Frees the slot, and removes its descriptor from the epoll explicitly: closing the descriptor
    /// does not remove it while a forked process has a copy.
    fn remove(&mut self, key: u32) -> (DeliveryGuard, PidIdentity) {
        let armed = self.slots.stage(key) == Stage::Armed;
        if let PidIdentity::Pidfd(pidfd) = &self.slots.get(key).identity {
            self.open_pidfds -= 1;
            if armed {
                // Cannot fail: the descriptor is in this epoll.
                let _ = epoll::delete(&self.epoll, pidfd);
            }
        }
        self.slots.remove(key)
    }

    /// Waits, and processes the ready events.
    fn take_ready(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        // A timeout that is too long for the call means no timeout.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        self.waits += 1;
        let ready = spare_capacity(&mut self.ready);
        let waited = faults::inject("epoll_wait")
            .and_then(|()| Ok(epoll::wait(&self.epoll, ready, timeout.as_ref())?));
        match waited {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        let mut ready = std::mem::take(&mut self.ready);
        for event in ready.drain(..) {
            let token = Token::unpack(event.data.u64());
            // Skips the eventfd, and watches that an earlier event of this batch disarmed.
            let poll = token.filter(|token| token.kind == Kind::Poll);
            if let Some(key) = poll.and_then(|token| self.slots.find(token)) {
                let flags = event.flags;
                self.ended(key, flags.contains(EventFlags::HUP));
            }
        }
        self.ready = ready;
        Ok(())
    }
}

impl Engine for Epoll {
    fn arm(&mut self, guard: DeliveryGuard, pidfd: Option<OwnedFd>) -> io::Result<()> {
        let key = self.insert(guard, pidfd);
        self.arm_slot(key);
        Ok(())
    }

    fn arm_after_delay(&mut self, guard: DeliveryGuard, pidfd: Option<OwnedFd>) -> io::Result<()> {
        let key = self.insert(guard, pidfd);
        self.retry_later(key);
        Ok(())
    }

    fn disarm(&mut self, record: &Record) -> io::Result<()> {
        let token = Token::unpack(record.token());
        let Some(key) = token.and_then(|token| self.slots.find(token)) else {
            return Ok(());
        };
        // A watch in the retry queue keeps its key until it is due, so that no other watch gets the
        // key; it is removed then.
        if self.slots.stage(key) == Stage::Armed {
            self.disarmed(key);
        }
        Ok(())
    }

    fn retry_due(&mut self) -> io::Result<()> {
        if self.retry_queue.is_empty() {
            return Ok(());
        }
        let now = Instant::now();
        while let Some(key) = self.retry_queue.pop_due(now) {
            match self.slots.is_abandoned(key) {
                true => self.disarmed(key),
                false => self.arm_slot(key),
            }
        }
        Ok(())
    }

    fn wait(
        &mut self,
        mode: WaitMode,
        timeout: Option<Duration>,
        events: &mut Vec<Event>,
    ) -> io::Result<()> {
        let now = Some(Duration::ZERO);
        let timeout = match mode == WaitMode::Poll || !self.pending_events.is_empty() {
            true => now,
            false => {
                let next_retry = self.retry_queue.next_due();
                let next_retry = next_retry.map(|at| at.saturating_duration_since(Instant::now()));
                earlier(timeout, next_retry)
            }
        };
        self.take_ready(timeout)?;
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
            open_pidfds: self.open_pidfds,
            enters: self.waits,
        }
    }
}

/// How many pidfds the backend holds in a process with this limit on descriptors.
///
/// Those in the mailbox come on top. An eighth, and at least [`OTHER_DESCRIPTORS`], is left to the
/// rest of the program, which opens several to start a child.
fn open_pidfds_max(descriptor_limit: u64) -> usize {
    let limit = usize::try_from(descriptor_limit).unwrap_or(usize::MAX);
    let others = (limit / 8).max(OTHER_DESCRIPTORS);
    limit.saturating_sub(pidfds_max(descriptor_limit) + others)
}

/// The current poll events of a pidfd.
fn poll_now(pidfd: &OwnedFd) -> PollFlags {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    match poll(&mut fds, Some(&Timespec::default())) {
        Ok(_) => fds[0].revents(),
        Err(_) => PollFlags::empty(),
    }
}

fn add(epoll: &OwnedFd, fd: BorrowedFd<'_>, token: Token, flags: EventFlags) -> io::Result<()> {
    faults::inject("epoll_ctl")?;
    Ok(epoll::add(
        epoll,
        fd,
        EventData::new_u64(token.pack()),
        flags,
    )?)
}

fn denied(call: &'static str, source: io::Error) -> BuildError {
    let errno = source.raw_os_error().unwrap_or(0);
    match NoDescriptors::from_errno(errno) {
        Some(none) => none.into(),
        None if errno == libc::ENOMEM => BuildError::OutOfMemory,
        None => SystemError { call, source }.into(),
    }
}
