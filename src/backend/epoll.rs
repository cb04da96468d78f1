//! The epoll backend, for where io_uring is denied: one pidfd held open for each watch.
//!
//! A pidfd that is closed leaves its epoll, so each stays open until its process has ended. What io_uring saves is
//! thus spent here: a descriptor for each watch, system calls to add, remove and close it, and their weight in
//! every spawn. All else is the same.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::engine::{Engine, Event, Gauges, StatusSource, WaitMode, earlier, no_descriptor};
use super::probe;
use super::retry_queue::RetryQueue;
use super::slots::{PidIdentity, Slots, Stage};
use super::token::{Kind, Token};
use crate::error::{BuildError, NoDescriptors, SystemError};
use crate::faults;
use crate::record::delivery_guard::DeliveryGuard;
use crate::record::{Ownership, Record, WatchFor};
use crate::sync::shrink::ShrinkIfSparse;
use crate::sys::{self, WaitResult, WaitTarget};

/// How many events one wait brings at most.
const EVENTS: usize = 256;

pub(crate) struct Epoll {
    epoll: OwnedFd,
    slots: Slots,
    retry_queue: RetryQueue,
    /// Found out while arming and disarming; the next wait tells them.
    early: Vec<Event>,
    ready: Vec<epoll::Event>,
    held: usize,
    /// Children of ours need none, and leave the last ones to the rest of the program.
    held_max: usize,
    waits: u64,
}

impl Epoll {
    /// `eventfd` wakes it, and outlives it.
    pub(crate) fn open(eventfd: BorrowedFd<'_>) -> Result<Self, BuildError> {
        let epoll = faults::inject("epoll_create1")
            .and_then(|()| Ok(epoll::create(CreateFlags::CLOEXEC)?))
            .map_err(|error| denied("epoll_create1", error))?;
        let add_wake = |fd: BorrowedFd<'_>, flags| {
            add(&epoll, fd, Token::WAKE, flags).map_err(|error| denied("epoll_ctl", error))
        };
        // Whether pidfds can be had and waited for is found out by trying.
        let me = probe::own_pidfd()?;
        add_wake(me.as_fd(), EventFlags::IN)?;
        epoll::delete(&epoll, &me).map_err(|errno| denied("epoll_ctl", errno.into()))?;
        // Edge-triggered: each ring of the bell is one event, and the count is never read.
        add_wake(eventfd, EventFlags::IN | EventFlags::ET)?;
        let limit = sys::descriptor_limit();
        Ok(Self {
            epoll,
            slots: Slots::new(),
            retry_queue: RetryQueue::default(),
            early: Vec::new(),
            ready: Vec::with_capacity(EVENTS),
            held: 0,
            held_max: usize::try_from(limit - limit / 8).unwrap_or(usize::MAX),
            waits: 0,
        })
    }

    fn insert(&mut self, guard: DeliveryGuard, pidfd: Option<OwnedFd>) -> u32 {
        self.held += usize::from(pidfd.is_some());
        let hold = pidfd.map_or(PidIdentity::Owned(None), PidIdentity::Pidfd);
        self.slots.insert(guard, hold, Stage::RetryQueue)
    }

    /// Arms a watch whose slot is filled.
    fn rearm(&mut self, key: u32) {
        if let PidIdentity::Owned(_) = self.slots.get(key).hold {
            if self.held >= self.held_max {
                return self.without_descriptor(key);
            }
            match sys::pidfd_open(self.slots.get(key).guard.record().pid()) {
                Ok(pidfd) => {
                    let looked = sys::waitid(WaitTarget::PeekPidfd(pidfd.as_fd()));
                    self.slots.get(key).hold = PidIdentity::Pidfd(pidfd);
                    self.held += 1;
                    match looked {
                        // Something else reaped it, and its pid may be a stranger's.
                        Ok(WaitResult::NoChild) => return self.ended(key, true),
                        Ok(WaitResult::Ended(..)) => return self.ended(key, false),
                        _ => {}
                    }
                }
                Err(error) if no_descriptor(&error).is_some() => {
                    return self.without_descriptor(key);
                }
                // Nobody has the pid: it was reaped, against the rules.
                Err(_) => return self.ended(key, true),
            }
        }
        let token = self.slots.token(key, Kind::Poll);
        let slot = self.slots.get(key);
        let flags = match slot.guard.record().watch_for() {
            WatchFor::Exited => EventFlags::IN,
            // EPOLLHUP is always told, so this waits for nothing else (Linux 6.9).
            WatchFor::Reaped => EventFlags::empty(),
        };
        let PidIdentity::Pidfd(pidfd) = &slot.hold else {
            return;
        };
        match add(&self.epoll, pidfd.as_fd(), token, flags) {
            Ok(()) => self.slots.set_stage(key, Stage::Armed),
            // ENOMEM, or ENOSPC (fs.epoll.max_user_watches).
            Err(_) => self.without_descriptor(key),
        }
    }

    /// Nothing can be armed for want of something. Whether it has ended can be asked all the same.
    fn without_descriptor(&mut self, key: u32) {
        let slot = self.slots.get(key);
        let record = slot.guard.record();
        if record.ownership() == Ownership::Owned {
            return match sys::waitid(WaitTarget::PeekPid(record.pid())) {
                Ok(WaitResult::Pending) => self.rest(key),
                _ => self.ended(key, false),
            };
        }
        let flags = match &slot.hold {
            PidIdentity::Pidfd(pidfd) => look(pidfd),
            _ => PollFlags::empty(),
        };
        let reaped = flags.contains(PollFlags::HUP);
        match reaped || record.watch_for() == WatchFor::Exited && flags.contains(PollFlags::IN) {
            true => self.ended(key, reaped),
            false => self.rest(key),
        }
    }

    fn rest(&mut self, key: u32) {
        self.slots.set_stage(key, Stage::RetryQueue);
        self.retry_queue.push(key);
    }

    /// The process has ended. `reaped`: and nobody can ask for its status by its pid any more.
    fn ended(&mut self, key: u32, reaped: bool) {
        let (guard, hold) = self.remove(key);
        let source = match (hold, guard.record().ownership()) {
            (PidIdentity::Pidfd(pidfd), Ownership::Child | Ownership::NotChild) => {
                StatusSource::Pidfd(pidfd)
            }
            _ if reaped => StatusSource::Reaped,
            (hold, _) => StatusSource::Owned {
                pidfd: match hold {
                    PidIdentity::Pidfd(pidfd) => Some(pidfd),
                    _ => None,
                },
                inode: None,
                late: false,
            },
        };
        self.early.push(Event::Ended(guard, source));
    }

    fn disarmed(&mut self, key: u32) {
        let _given_up = self.remove(key);
        self.early.push(Event::Disarmed);
    }

    /// Frees the slot. The descriptor leaves the epoll by being told to: closing it would not do, if a forked
    /// process has a copy of it.
    fn remove(&mut self, key: u32) -> (DeliveryGuard, PidIdentity) {
        let armed = self.slots.stage(key) == Stage::Armed;
        if let PidIdentity::Pidfd(pidfd) = &self.slots.get(key).hold {
            self.held -= 1;
            if armed {
                // Cannot fail: it is in there.
                let _ = epoll::delete(&self.epoll, pidfd);
            }
        }
        self.slots.remove(key)
    }

    fn retry_due(&mut self) {
        if self.retry_queue.is_empty() {
            return;
        }
        let now = Instant::now();
        while let Some(key) = self.retry_queue.pop_due(now) {
            match self.slots.is_abandoned(key) {
                true => self.disarmed(key),
                false => self.rearm(key),
            }
        }
    }

    /// Waits, and takes in what is ready.
    fn take_ready(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        // A time that is too long for the call is as good as for ever.
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
            // The bell, or what was disarmed by an event before this one.
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
        self.rearm(key);
        Ok(())
    }

    fn arm_after_delay(&mut self, guard: DeliveryGuard, pidfd: Option<OwnedFd>) -> io::Result<()> {
        let key = self.insert(guard, pidfd);
        self.rest(key);
        Ok(())
    }

    fn disarm(&mut self, record: &Record) -> io::Result<()> {
        let token = Token::unpack(record.token());
        let Some(key) = token.and_then(|token| self.slots.find(token)) else {
            return Ok(());
        };
        // One that rests is in a line, where its key is not to become another's: it is seen to when its turn comes.
        if self.slots.stage(key) == Stage::Armed {
            self.disarmed(key);
        }
        Ok(())
    }

    fn wait(
        &mut self,
        mode: WaitMode,
        timeout: Option<Duration>,
        events: &mut Vec<Event>,
    ) -> io::Result<()> {
        self.retry_due();
        let now = Some(Duration::ZERO);
        let timeout = match mode == WaitMode::Poll || !self.early.is_empty() {
            true => now,
            false => {
                let rest = self.retry_queue.next();
                let rest = rest.map(|at| at.saturating_duration_since(Instant::now()));
                earlier(timeout, rest)
            }
        };
        self.take_ready(timeout)?;
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
            held: self.held,
            enters: self.waits,
        }
    }
}

/// What there is to be said of a pidfd just now.
fn look(pidfd: &OwnedFd) -> PollFlags {
    let mut looks = [PollFd::new(pidfd, PollFlags::IN)];
    match poll(&mut looks, Some(&Timespec::default())) {
        Ok(_) => looks[0].revents(),
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
