//! Ended watches in line for a descriptor through which their status is read.
//!
//! A few at a time, so that a storm never needs many descriptors at once; strictly in order, so that exits
//! are told in the order of the ends; and with patience when there is no descriptor to be had.

#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::time::Instant;

use io_uring::opcode;
use io_uring::types::Fixed;

use super::engine::{Event, Evidence};
use super::resting::RETRY_AFTER;
use super::ring::Completion;
use super::slots::Hold;
use super::token::Kind;
use super::uring::{Reopened, Uring};
use crate::faults;

/// Descriptors open at a time for reading statuses.
const AT_ONCE_MAX: usize = 16;
/// For one status there are this many tries, [`RETRY_AFTER`] apart: half a second.
const TRIES: u8 = 50;

pub(super) struct Claims {
    line: VecDeque<u32>,
    /// Asked of the kernel, which has not answered.
    asked: usize,
    /// Asked in vain, and not back in line yet.
    refused: Vec<u32>,
    /// How many may be asked for at a time: one after a refusal, and then one more each time.
    at_once: usize,
    /// Nothing is asked for before: there was no descriptor.
    rest_until: Option<Instant>,
}

impl Claims {
    pub(super) fn new() -> Self {
        Self {
            line: VecDeque::new(),
            asked: 0,
            refused: Vec::new(),
            at_once: AT_ONCE_MAX,
            rest_until: None,
        }
    }

    pub(super) fn push(&mut self, key: u32) {
        self.line.push_back(key);
    }

    /// Whether somebody is in line, and the line does not rest.
    pub(super) fn can_go_on(&self) -> bool {
        !self.line.is_empty() && self.rest_until.is_none()
    }

    pub(super) fn rest_until(&self) -> Option<Instant> {
        self.rest_until
    }

    pub(super) fn wake_up(&mut self, now: Instant) {
        self.rest_until = self.rest_until.filter(|at| *at > now);
    }

    /// To the head of the line, in their order.
    pub(super) fn put_back_refused(&mut self) {
        while let Some(key) = self.refused.pop() {
            self.line.push_front(key);
        }
    }

    fn granted(&mut self) {
        self.at_once = (self.at_once + 1).min(AT_ONCE_MAX);
    }
}

impl Uring {
    /// Gets descriptors for the first in line.
    pub(super) fn work_off_claims(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        let mut open = events
            .iter()
            .filter(|event| matches!(event, Event::Ended(_, Evidence::Pidfd(_))))
            .count();
        while open + self.claims.asked < self.claims.at_once && self.claims.can_go_on() {
            let Some(key) = self.claims.line.pop_front() else {
                break;
            };
            let slot = self.slots.get(key);
            if let Hold::Table(table_slot) = slot.hold {
                if let Err(error) = faults::strike("FIXED_FD_INSTALL") {
                    let errno = error.raw_os_error().unwrap_or(0);
                    self.claim_refused(key, errno, events)?;
                    self.claims.put_back_refused();
                    continue;
                }
                let install = opcode::FixedFdInstall::new(Fixed(table_slot), 0).build();
                let token = self.slots.token(key, Kind::Install);
                self.ring.push(install.user_data(token.pack()))?;
                self.claims.asked += 1;
                continue;
            }
            if self.claims.asked > 0 {
                // This one's could be had at once, but the ones before have theirs only
                // after the next enter.
                self.claims.line.push_front(key);
                break;
            }
            match slot.hold {
                Hold::Table(_) => {}
                Hold::Pid => {
                    let evidence = match slot.reaped {
                        true => Evidence::Reaped,
                        false => Evidence::Ours,
                    };
                    self.ended(key, evidence, events)?;
                }
                Hold::Pidfd(_) => self.ended_with_own(key, events),
                Hold::Inode(_) => match self.reopen(key)? {
                    Reopened::Pidfd(pidfd) => {
                        open += 1;
                        self.claims.granted();
                        self.ended(key, Evidence::Pidfd(pidfd), events)?;
                    }
                    Reopened::Reaped => self.ended(key, Evidence::Reaped, events)?,
                    Reopened::NoDescriptor(errno) => {
                        self.claim_refused(key, errno, events)?;
                        self.claims.put_back_refused();
                    }
                },
            }
        }
        Ok(())
    }

    pub(super) fn install_completed(
        &mut self,
        completion: Completion,
        events: &mut Vec<Event>,
    ) -> io::Result<()> {
        self.claims.asked -= 1;
        let pidfd = match completion.result {
            // SAFETY: a FIXED_FD_INSTALL that succeeds gives a new descriptor, ours alone.
            fd @ 0.. => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
            error => Err(-error),
        };
        let Some(key) = self.slots.find(completion.token) else {
            debug_assert!(
                false,
                "a slot was freed while a descriptor of it was asked for"
            );
            return Ok(());
        };
        match pidfd {
            Ok(pidfd) => {
                self.claims.granted();
                self.ended(key, Evidence::Pidfd(pidfd), events)
            }
            Err(errno) => self.claim_refused(key, errno, events),
        }
    }

    /// There was no descriptor for a status: ask for one at a time, and give up the spare for it,
    /// else rest, else do without.
    fn claim_refused(&mut self, key: u32, errno: i32, events: &mut Vec<Event>) -> io::Result<()> {
        self.claims.at_once = 1;
        if self.spare.take().is_none() {
            let slot = self.slots.get(key);
            slot.tries += 1;
            if slot.tries >= TRIES {
                return self.ended(key, Evidence::NoDescriptor(errno), events);
            }
            self.claims.rest_until = Some(Instant::now() + RETRY_AFTER);
        }
        self.claims.refused.push(key);
        Ok(())
    }
}
