//! Gets descriptors for ended watches, through which their status is read.
//!
//! Few descriptors are open at a time, so that a burst never needs many; and requests are processed
//! in order, so that exits are delivered in the order in which processes ended. When no descriptor
//! is available, watches that need none overtake: children of ours, watches that hold a pidfd, and
//! children whose identity is in the file table, whose status is read by pid (`query_by_pid`). The
//! others wait until a descriptor is available, or until none has been available for half a second
//! since they were queued.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::time::Instant;

use io_uring::opcode;
use io_uring::types::Fixed;

use super::arming::Reopened;
use super::engine::{Event, PID_REUSE_MIN, StatusSource};
use super::retry_queue::RETRY_DELAY;
use super::ring::Completion;
use super::slots::PidIdentity;
use super::status_fd_queue::{STARVATION_MAX, StatusRequest};
use super::token::Kind;
use super::uring::Uring;
use crate::faults;
use crate::record::{Ownership, WatchFor};
use crate::sys::{self, WaitResult, WaitTarget};

impl Uring {
    /// Gets descriptors for the watches at the head of the queue.
    pub(super) fn process_status_requests(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        let mut open = events
            .iter()
            .filter(|event| matches!(event, Event::Ended(_, StatusSource::Pidfd(_))))
            .count();
        while self.status_fd_queue.paused.is_none()
            && open + self.status_fd_queue.in_flight.len() < self.status_fd_queue.in_flight_max
        {
            let Some(request) = self.status_fd_queue.queue.pop_front() else {
                break;
            };
            let StatusRequest { key, queued_at } = request;
            if self.slots.is_abandoned(key) {
                self.disarmed(key, events)?;
                continue;
            }
            let slot = self.slots.get(key);
            if let PidIdentity::Table(table_slot) = slot.identity {
                if let Err(error) = faults::inject("FIXED_FD_INSTALL") {
                    let errno = error.raw_os_error().unwrap_or(0);
                    self.request_refused(request, errno);
                    self.status_fd_queue.requeue_refused();
                    continue;
                }
                let install = opcode::FixedFdInstall::new(Fixed(table_slot), 0).build();
                let token = self.slots.token(key, Kind::Install);
                self.ring.push(install.user_data(token.pack()))?;
                self.status_fd_queue.in_flight.insert(key, queued_at);
                continue;
            }
            if !self.status_fd_queue.in_flight.is_empty() {
                // This watch could get a descriptor at once, but those before it get theirs only
                // after the next enter.
                self.status_fd_queue.queue.push_front(request);
                break;
            }
            match self.slots.get(key).identity {
                PidIdentity::Table(_) => {}
                PidIdentity::Owned(_) => self.owned_child_ended(request, events)?,
                PidIdentity::Pidfd(_) => self.ended_with_pidfd(key, events),
                PidIdentity::Inode(_) => match self.reopen(key)? {
                    Reopened::Pidfd(pidfd) => {
                        open += 1;
                        self.status_fd_queue.descriptor_opened();
                        self.ended(key, StatusSource::Pidfd(pidfd), events)?;
                    }
                    // Only for children of ours, which are not `Inode`.
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

    /// Reports the end of a child that is ours to reap.
    fn owned_child_ended(
        &mut self,
        request: StatusRequest,
        events: &mut Vec<Event>,
    ) -> io::Result<()> {
        let slot = self.slots.get(request.key);
        let source = match slot.identity {
            PidIdentity::Owned(_) if !slot.reaped => StatusSource::Owned {
                pidfd: None,
                inode: slot.inode(),
                maybe_reused: request.queued_at.elapsed() > PID_REUSE_MIN,
            },
            _ => StatusSource::Reaped,
        };
        self.ended(request.key, source, events)
    }

    /// While no descriptor is available, goes through the queue once for watches that need none,
    /// and for those that have waited long enough.
    fn complete_without_descriptor(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        let Some((_, errno)) = self.status_fd_queue.paused else {
            return Ok(());
        };
        let now = Instant::now();
        let checked = self.status_fd_queue.checked;
        for request in self.status_fd_queue.queue.split_off(checked) {
            let key = request.key;
            if self.slots.is_abandoned(key) {
                self.disarmed(key, events)?;
                continue;
            }
            match self.slots.get(key).identity {
                PidIdentity::Owned(_) => self.owned_child_ended(request, events)?,
                PidIdentity::Pidfd(_) => self.ended_with_pidfd(key, events),
                PidIdentity::Table(_) | PidIdentity::Inode(_) => {
                    if self.query_by_pid(request)? {
                        continue;
                    }
                    let since = self
                        .status_fd_queue
                        .starved_since
                        .unwrap_or(now)
                        .max(request.queued_at);
                    match now.saturating_duration_since(since) >= STARVATION_MAX {
                        true => self.ended(key, StatusSource::NoDescriptor(errno), events)?,
                        false => self.status_fd_queue.queue.push_back(request),
                    }
                }
            }
        }
        self.status_fd_queue.checked = self.status_fd_queue.queue.len();
        Ok(())
    }

    /// Reads the status of a child by its pid, which may have been reused.
    ///
    /// A second poll of the file in the table confirms the result afterwards: if our process is not
    /// reaped by then, it had its pid all the time. Returns `false` if the status cannot be read
    /// this way.
    fn query_by_pid(&mut self, request: StatusRequest) -> io::Result<bool> {
        let slot = self.slots.get(request.key);
        // The process has been reaped, so its pid may be reused.
        if slot.reaped {
            return Ok(false);
        }
        let record = slot.guard.record();
        let (&PidIdentity::Table(table_slot), Ownership::Child, WatchFor::Exited) =
            (&slot.identity, record.ownership(), record.watch_for())
        else {
            return Ok(false);
        };
        match sys::waitid(WaitTarget::PeekPid(record.pid())) {
            Ok(WaitResult::Ended(outcome, usage)) => {
                let poll = opcode::PollAdd::new(Fixed(table_slot), libc::POLLIN as u32).build();
                let token = self.slots.token(request.key, Kind::Confirm);
                self.ring.push(poll.user_data(token.pack()))?;
                self.status_fd_queue
                    .unconfirmed
                    .insert(request.key, (request, outcome, usage));
                Ok(true)
            }
            // A tracer must see the end first.
            Ok(WaitResult::Pending) => {
                self.retry_later(request.key);
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
        let Some((request, outcome, usage)) = self
            .status_fd_queue
            .unconfirmed
            .remove(&completion.token.key)
        else {
            debug_assert!(false, "an unexpected confirmation");
            return Ok(());
        };
        // The table is used only on kernels whose pidfds report that a process was reaped (Linux
        // 6.9).
        if completion.result >= 0 && completion.result & i32::from(libc::POLLHUP) == 0 {
            return self.ended(request.key, StatusSource::Status(outcome, usage), events);
        }
        // Only a descriptor can help: the process was reaped, or cannot be polled now.
        self.slots.get(request.key).reaped = true;
        self.status_fd_queue.queue.push_back(request);
        Ok(())
    }

    pub(super) fn install_completed(
        &mut self,
        completion: Completion,
        events: &mut Vec<Event>,
    ) -> io::Result<()> {
        let pidfd = match completion.result {
            // SAFETY: a successful FIXED_FD_INSTALL returns a new descriptor that nothing else
            // owns.
            fd @ 0.. => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
            error => Err(-error),
        };
        let key = completion.token.key;
        let (Some(queued_at), Some(_)) = (
            self.status_fd_queue.in_flight.remove(&key),
            self.slots.find(completion.token),
        ) else {
            debug_assert!(
                false,
                "a slot was freed during a request for its descriptor"
            );
            return Ok(());
        };
        match pidfd {
            Ok(pidfd) => {
                self.status_fd_queue.descriptor_opened();
                self.ended(key, StatusSource::Pidfd(pidfd), events)
            }
            Err(errno) => {
                self.request_refused(StatusRequest { key, queued_at }, errno);
                Ok(())
            }
        }
    }

    /// Handles a shortage of descriptors: requests one at a time from now on, and releases the
    /// spare, or pauses the queue if there is none.
    fn request_refused(&mut self, request: StatusRequest, errno: i32) {
        self.status_fd_queue.in_flight_max = 1;
        self.status_fd_queue
            .starved_since
            .get_or_insert_with(Instant::now);
        if self.spare.take().is_none() {
            let until = Instant::now() + RETRY_DELAY;
            self.status_fd_queue.paused = Some((until, errno));
        }
        self.status_fd_queue.refused.push(request);
    }
}
