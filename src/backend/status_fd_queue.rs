//! Ended watches in line for a descriptor through which their status is read.
//!
//! A few at a time, so that a storm never needs many descriptors at once; in order, so that exits
//! are delivered in the order of the ends. When no descriptor is to be had, those that need none pass: children of ours,
//! watches that hold their own, and children whose identity is in the file table, which are asked about by their pid
//! (`find_by_pid`). The others wait until there is one again, or until there was none for half a second since they joined the line.

#![allow(unsafe_code)]

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use io_uring::opcode;
use io_uring::types::Fixed;

use super::arming::Reopened;
use super::engine::{Event, LATE, StatusSource};
use super::retry_queue::RETRY_AFTER;
use super::ring::Completion;
use super::slots::PidIdentity;
use super::token::Kind;
use super::uring::Uring;
use crate::faults;
use crate::record::{Ownership, WatchFor};
use crate::sync::shrink::ShrinkIfSparse;
use crate::sys::{self, WaitResult, WaitTarget};
use crate::types::exit::{Outcome, Usage};

/// Descriptors open at a time for reading statuses.
const AT_ONCE_MAX: usize = 16;
/// So long a watch waits in line while there is no descriptor for anyone in it.
const STARVATION_MAX: Duration = Duration::from_millis(500);

/// A place in line.
#[derive(Clone, Copy)]
struct StatusRequest {
    key: u32,
    joined: Instant,
}

pub(super) struct StatusFdQueue {
    line: VecDeque<StatusRequest>,
    /// Asked of the kernel, which has not answered.
    asked: HashMap<u32, Instant>,
    /// Asked in vain, and not back in line yet.
    refused: Vec<StatusRequest>,
    /// How many may be asked for at a time: one after a refusal, and then one more each time.
    at_once: usize,
    /// Nothing is asked for before: there was no descriptor, for this errno.
    rest: Option<(Instant, i32)>,
    /// Since when none was to be had. One who waits in a long line while some are is not given up.
    starved_since: Option<Instant>,
    /// Of the line, so many were looked at in this rest whether they need a descriptor.
    looked_at: usize,
    /// Statuses found by pid, whose identity is being confirmed.
    found: HashMap<u32, (StatusRequest, Outcome, Usage)>,
}

impl StatusFdQueue {
    pub(super) fn new() -> Self {
        Self {
            line: VecDeque::new(),
            asked: HashMap::new(),
            refused: Vec::new(),
            at_once: AT_ONCE_MAX,
            rest: None,
            starved_since: None,
            looked_at: 0,
            found: HashMap::new(),
        }
    }

    pub(super) fn push(&mut self, key: u32) {
        let joined = Instant::now();
        self.line.push_back(StatusRequest { key, joined });
    }

    /// Whether there is something to be done about the line just now.
    pub(super) fn has_ready(&self) -> bool {
        match self.rest {
            None => !self.line.is_empty(),
            Some(_) => self.looked_at < self.line.len(),
        }
    }

    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.rest.map(|(until, _)| until)
    }

    pub(super) fn wake_up(&mut self, now: Instant) {
        if self.rest.is_some_and(|(until, _)| until <= now) {
            self.rest = None;
            self.looked_at = 0;
        }
    }

    /// To the head of the line, in their order.
    pub(super) fn requeue_refused(&mut self) {
        while let Some(request) = self.refused.pop() {
            self.line.push_front(request);
        }
    }

    pub(super) fn shrink(&mut self) {
        self.line.shrink_if_sparse();
        self.found.shrink_if_sparse();
    }

    fn granted(&mut self) {
        self.starved_since = None;
        self.at_once = (self.at_once + 1).min(AT_ONCE_MAX);
    }
}

impl Uring {
    /// Gets descriptors for the first in line.
    pub(super) fn process_status_requests(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        let mut open = events
            .iter()
            .filter(|event| matches!(event, Event::Ended(_, StatusSource::Pidfd(_))))
            .count();
        while self.status_fd_queue.rest.is_none()
            && open + self.status_fd_queue.asked.len() < self.status_fd_queue.at_once
        {
            let Some(request) = self.status_fd_queue.line.pop_front() else {
                break;
            };
            let StatusRequest { key, joined } = request;
            if self.slots.is_abandoned(key) {
                self.disarmed(key, events)?;
                continue;
            }
            let slot = self.slots.get(key);
            if let PidIdentity::Table(table_slot) = slot.hold {
                if let Err(error) = faults::inject("FIXED_FD_INSTALL") {
                    let errno = error.raw_os_error().unwrap_or(0);
                    self.request_refused(request, errno);
                    self.status_fd_queue.requeue_refused();
                    continue;
                }
                let install = opcode::FixedFdInstall::new(Fixed(table_slot), 0).build();
                let token = self.slots.token(key, Kind::Install);
                self.ring.push(install.user_data(token.pack()))?;
                self.status_fd_queue.asked.insert(key, joined);
                continue;
            }
            if !self.status_fd_queue.asked.is_empty() {
                // This one's could be had at once, but the ones before have theirs only
                // after the next enter.
                self.status_fd_queue.line.push_front(request);
                break;
            }
            match self.slots.get(key).hold {
                PidIdentity::Table(_) => {}
                PidIdentity::Owned(_) => self.owned_ended(request, events)?,
                PidIdentity::Pidfd(_) => self.ended_with_own(key, events),
                PidIdentity::Inode(_) => match self.reopen(key)? {
                    Reopened::Pidfd(pidfd) => {
                        open += 1;
                        self.status_fd_queue.granted();
                        self.ended(key, StatusSource::Pidfd(pidfd), events)?;
                    }
                    // Only children of ours.
                    Reopened::Ended(_) => {}
                    Reopened::Reaped => self.ended(key, StatusSource::Reaped, events)?,
                    Reopened::NoDescriptor(errno) => {
                        self.request_refused(request, errno);
                        self.status_fd_queue.requeue_refused();
                    }
                },
            }
        }
        self.complete_without_descriptor(events)
    }

    /// A child of ours has ended.
    fn owned_ended(&mut self, request: StatusRequest, events: &mut Vec<Event>) -> io::Result<()> {
        let slot = self.slots.get(request.key);
        let source = match slot.hold {
            PidIdentity::Owned(inode) if !slot.reaped => StatusSource::Owned {
                pidfd: None,
                inode,
                late: request.joined.elapsed() > LATE,
            },
            _ => StatusSource::Reaped,
        };
        self.ended(request.key, source, events)
    }

    /// While there is no descriptor, goes through the line once for those that need none, and those that have waited long
    /// enough.
    fn complete_without_descriptor(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        let Some((_, errno)) = self.status_fd_queue.rest else {
            return Ok(());
        };
        let now = Instant::now();
        let looked_at = self.status_fd_queue.looked_at;
        for request in self.status_fd_queue.line.split_off(looked_at) {
            let key = request.key;
            if self.slots.is_abandoned(key) {
                self.disarmed(key, events)?;
                continue;
            }
            match self.slots.get(key).hold {
                PidIdentity::Owned(_) => self.owned_ended(request, events)?,
                PidIdentity::Pidfd(_) => self.ended_with_own(key, events),
                PidIdentity::Table(_) | PidIdentity::Inode(_) => {
                    if self.find_by_pid(request)? {
                        continue;
                    }
                    let since = self
                        .status_fd_queue
                        .starved_since
                        .unwrap_or(now)
                        .max(request.joined);
                    match now.saturating_duration_since(since) >= STARVATION_MAX {
                        true => self.ended(key, StatusSource::NoDescriptor(errno), events)?,
                        false => self.status_fd_queue.line.push_back(request),
                    }
                }
            }
        }
        self.status_fd_queue.looked_at = self.status_fd_queue.line.len();
        Ok(())
    }

    /// Asks for the status of a child by its pid, which could be another child's by now; whether it was, a second poll of the
    /// file in the table says afterwards: if our process is still not reaped then, it had its pid all the time. `false`: nothing is
    /// to be found this way.
    fn find_by_pid(&mut self, request: StatusRequest) -> io::Result<bool> {
        let slot = self.slots.get(request.key);
        // Its pid is not its own any more.
        if slot.reaped {
            return Ok(false);
        }
        let record = slot.guard.record();
        let (&PidIdentity::Table(table_slot), Ownership::Child, WatchFor::Exited) =
            (&slot.hold, record.ownership(), record.watch_for())
        else {
            return Ok(false);
        };
        match sys::waitid(WaitTarget::PeekPid(record.pid())) {
            Ok(WaitResult::Ended(outcome, usage)) => {
                let poll = opcode::PollAdd::new(Fixed(table_slot), libc::POLLIN as u32).build();
                let token = self.slots.token(request.key, Kind::Confirm);
                self.ring.push(poll.user_data(token.pack()))?;
                self.status_fd_queue
                    .found
                    .insert(request.key, (request, outcome, usage));
                Ok(true)
            }
            // A tracer has to see the end first.
            Ok(WaitResult::Pending) => {
                self.rest(request.key);
                Ok(true)
            }
            Ok(WaitResult::NoChild) | Err(_) => Ok(false),
        }
    }

    pub(super) fn confirm_completed(
        &mut self,
        completion: Completion,
        events: &mut Vec<Event>,
    ) -> io::Result<()> {
        let Some((request, outcome, usage)) =
            self.status_fd_queue.found.remove(&completion.token.key)
        else {
            debug_assert!(false, "nothing was to be confirmed");
            return Ok(());
        };
        // The table is used only on kernels whose pidfds say that a process was reaped (Linux 6.9).
        if completion.result >= 0 && completion.result & i32::from(libc::POLLHUP) == 0 {
            return self.ended(request.key, StatusSource::Status(outcome, usage), events);
        }
        // Only a descriptor will do: it was reaped, or cannot be polled now.
        self.slots.get(request.key).reaped = true;
        self.status_fd_queue.line.push_back(request);
        Ok(())
    }

    pub(super) fn install_completed(
        &mut self,
        completion: Completion,
        events: &mut Vec<Event>,
    ) -> io::Result<()> {
        let pidfd = match completion.result {
            // SAFETY: a FIXED_FD_INSTALL that succeeds gives a new descriptor, ours alone.
            fd @ 0.. => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
            error => Err(-error),
        };
        let key = completion.token.key;
        let (Some(joined), Some(_)) = (
            self.status_fd_queue.asked.remove(&key),
            self.slots.find(completion.token),
        ) else {
            debug_assert!(
                false,
                "a slot was freed while a descriptor of it was asked for"
            );
            return Ok(());
        };
        match pidfd {
            Ok(pidfd) => {
                self.status_fd_queue.granted();
                self.ended(key, StatusSource::Pidfd(pidfd), events)
            }
            Err(errno) => {
                self.request_refused(StatusRequest { key, joined }, errno);
                Ok(())
            }
        }
    }

    /// There was no descriptor for a status: ask for one at a time, and give up the spare for it,
    /// else rest.
    fn request_refused(&mut self, request: StatusRequest, errno: i32) {
        self.status_fd_queue.at_once = 1;
        self.status_fd_queue
            .starved_since
            .get_or_insert_with(Instant::now);
        if self.spare.take().is_none() {
            let until = Instant::now() + RETRY_AFTER;
            self.status_fd_queue.rest = Some((until, errno));
        }
        self.status_fd_queue.refused.push(request);
    }
}
