//! New watches of the io_uring backend: those whose pidfd a caller has added to [`NewPidfds`].
//!
//! They hold their pidfd until the process ends, or until they are armed in the ring with all
//! others of the last few milliseconds. Their number is limited.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use io_uring::opcode;
use io_uring::types::Fd;
use rustix::event::epoll;

use super::engine::{Event, StatusSource};
use super::new_pidfds::{NewPidfds, pidfd_of};
use super::ring::Completion;
use super::slots::{PidIdentity, Stage};
use super::token::Token;
use super::uring::Uring;
use crate::record::Ownership;
use crate::record::delivery_guard::DeliveryGuard;

/// How many pidfds at most are in the mailbox, and how many new watches hold one, in a process with
/// this limit on descriptors.
pub(crate) fn new_watches_max(descriptor_limit: u64) -> usize {
    usize::try_from(descriptor_limit / 16)
        .unwrap_or(usize::MAX)
        .clamp(2, 64)
}

pub(super) struct NewWatches {
    /// `None` if it could not be opened.
    pidfds: Option<Arc<NewPidfds>>,
    /// The pidfd and the key of each, in the order of their registration.
    watches: Vec<(RawFd, u32)>,
    max: usize,
    /// The epoll has a pidfd whose command was not taken when it was read.
    readable: bool,
    /// What was read from the epoll last.
    ended: Vec<epoll::Event>,
    /// The poll of the epoll has failed.
    poll_failed: bool,
}

impl NewWatches {
    pub(super) fn new(pidfds: Option<NewPidfds>, max: usize) -> Self {
        Self {
            pidfds: pidfds.map(Arc::new),
            watches: Vec::with_capacity(max),
            max,
            readable: false,
            // All that can be in the epoll: new watches, and those in the mailbox.
            ended: Vec::with_capacity(2 * max),
            poll_failed: false,
        }
    }

    pub(super) fn pidfds(&self) -> Option<Arc<NewPidfds>> {
        self.pidfds.clone()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.watches.is_empty()
    }

    pub(super) fn is_readable(&self) -> bool {
        self.readable
    }

    fn read(&mut self) {
        self.readable = false;
        if let Some(pidfds) = &self.pidfds {
            pidfds.read_ended(&mut self.ended);
        }
    }
}

impl Uring {
    /// Arms the poll of the epoll. Multishot: each wake-up of the epoll is one completion.
    pub(super) fn arm_new_pidfds(&mut self) -> io::Result<()> {
        self.new_watches.poll_failed = false;
        let Some(pidfds) = &self.new_watches.pidfds else {
            return Ok(());
        };
        let poll = opcode::PollAdd::new(Fd(pidfds.as_fd().as_raw_fd()), libc::POLLIN as u32)
            .multi(true)
            .build();
        self.ring.push(poll.user_data(Token::NEW_PIDFDS.pack()))
    }

    /// Ends the watches that the epoll reports. They are reported in the order of completions, as
    /// other watches are.
    pub(super) fn new_pidfds_completed(
        &mut self,
        completion: &Completion,
        events: &mut Vec<Event>,
    ) -> io::Result<()> {
        match (completion.more, completion.result) {
            (true, _) => {}
            // It failed for lack of memory, and would fail again at once. The next new watch arms
            // it again; those that are there are armed in the ring soon.
            (false, ..0) => self.new_watches.poll_failed = true,
            (false, _) => self.arm_new_pidfds()?,
        }
        self.new_watches.read();
        // A command may be in the mailbox.
        self.end_new(false, events)
    }

    /// Adds a watch whose pidfd is in the epoll.
    pub(super) fn insert_new(&mut self, guard: DeliveryGuard, pidfd: OwnedFd) -> io::Result<()> {
        if self.new_watches.watches.len() >= self.new_watches.max {
            self.arm_all_new()?;
        }
        if self.new_watches.poll_failed {
            self.arm_new_pidfds()?;
        }
        let raw = pidfd.as_raw_fd();
        self.open_pidfds += 1;
        let key = self
            .slots
            .insert(guard, PidIdentity::Pidfd(pidfd), Stage::New);
        self.new_watches.watches.push((raw, key));
        Ok(())
    }

    /// Reads the epoll, if it is readable. To be called before commands are taken.
    pub(super) fn read_new_pidfds(&mut self) {
        if self.new_watches.readable {
            self.new_watches.read();
        }
    }

    /// Ends the watches whose pidfds were read. Without a command left to carry out (`all`), each
    /// has a watch.
    pub(super) fn end_new(&mut self, all: bool, events: &mut Vec<Event>) -> io::Result<()> {
        let mut ended = std::mem::take(&mut self.new_watches.ended);
        for event in ended.drain(..) {
            let raw = pidfd_of(&event);
            let watches = &self.new_watches.watches;
            match watches.iter().find(|(other, _)| *other == raw) {
                Some(&(_, key)) => self.end_one_new(key, events)?,
                None => self.new_watches.readable |= !all,
            }
        }
        self.new_watches.ended = ended;
        Ok(())
    }

    fn end_one_new(&mut self, key: u32, events: &mut Vec<Event>) -> io::Result<()> {
        if self.slots.is_abandoned(key) {
            return self.disarm_new(key, events);
        }
        self.remove_new(key);
        let owned = self.slots.get(key).guard.record().ownership() == Ownership::Owned;
        if !self.status_fd_queue.is_idle() {
            // Others have ended before.
            if owned {
                self.identify_by_pid(key)?;
            }
            self.slots.set_stage(key, Stage::NeedsStatus);
            self.status_fd_queue.push(key);
            return Ok(());
        }
        if !owned {
            self.ended_with_pidfd(key, events);
            return Ok(());
        }
        let (guard, identity) = self.slots.remove(key);
        self.open_pidfds -= 1;
        let pidfd = match identity {
            PidIdentity::Pidfd(pidfd) => Some(pidfd),
            _ => None,
        };
        let source = StatusSource::Owned {
            pidfd,
            inode: None,
            maybe_reused: false,
        };
        events.push(Event::Ended(guard, source));
        Ok(())
    }

    /// Closes the pidfd of a child that is ours to reap.
    fn identify_by_pid(&mut self, key: u32) -> io::Result<()> {
        let Some(pidfd) = self.take_pidfd(key) else {
            return Ok(());
        };
        let record = Arc::clone(self.slots.get(key).guard.record());
        let (identity, _, close) = self.store_identity(pidfd, &record);
        self.slots.get(key).identity = identity;
        close.map_or(Ok(()), |pidfd| self.ring.close(pidfd))
    }

    /// Ends an abandoned watch.
    pub(super) fn disarm_new(&mut self, key: u32, events: &mut Vec<Event>) -> io::Result<()> {
        self.remove_new(key);
        self.disarmed(key, events)
    }

    /// Arms all new watches in the ring, in their order. Those that have ended before are reported
    /// first.
    pub(super) fn arm_all_new(&mut self) -> io::Result<()> {
        if self.new_watches.is_empty() {
            return Ok(());
        }
        let mut events = std::mem::take(&mut self.pending_events);
        self.new_watches.read();
        let result = self
            .end_new(false, &mut events)
            .and_then(|()| self.arm_others(&mut events));
        self.pending_events = events;
        result
    }

    fn arm_others(&mut self, events: &mut Vec<Event>) -> io::Result<()> {
        while let Some(&(_, key)) = self.new_watches.watches.first() {
            if self.slots.is_abandoned(key) {
                self.disarm_new(key, events)?;
                continue;
            }
            self.remove_new(key);
            if let Some(pidfd) = self.take_pidfd(key) {
                self.arm_with_pidfd(key, pidfd)?;
            }
        }
        Ok(())
    }

    /// Takes the pidfd out of a slot.
    fn take_pidfd(&mut self, key: u32) -> Option<OwnedFd> {
        let none = PidIdentity::Owned(None);
        match std::mem::replace(&mut self.slots.get(key).identity, none) {
            PidIdentity::Pidfd(pidfd) => {
                self.open_pidfds -= 1;
                Some(pidfd)
            }
            other => {
                self.slots.get(key).identity = other;
                None
            }
        }
    }

    /// Removes a watch from the list, and its pidfd from the epoll.
    fn remove_new(&mut self, key: u32) {
        let watches = &mut self.new_watches.watches;
        if let Some(index) = watches.iter().position(|(_, other)| *other == key) {
            watches.remove(index);
        }
        if let (Some(pidfds), PidIdentity::Pidfd(pidfd)) =
            (&self.new_watches.pidfds, &self.slots.get(key).identity)
        {
            pidfds.remove(pidfd.as_fd());
        }
    }
}

#[cfg(test)]
mod tests;
