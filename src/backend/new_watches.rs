//! New watches of the io_uring backend: those whose pidfd a caller has added to [`NewPidfds`].
//!
//! They hold their pidfd until the process ends, or until they are armed in the ring with all
//! others of the last few milliseconds. There are at most [`MAX`](NewWatches::max) of them.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Instant;

use io_uring::opcode;
use io_uring::types::Fd;

use super::engine::{Event, StatusSource};
use super::new_pidfds::NewPidfds;
use super::retry_queue::RETRY_DELAY;
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
    /// The pidfd and the key of each.
    watches: Vec<(RawFd, u32)>,
    max: usize,
    /// The poll of the epoll has completed since it was read.
    pub(super) readable: bool,
    /// Pidfds that were read from the epoll, and not processed yet.
    ended: Vec<RawFd>,
    /// When to arm the poll of the epoll again after it failed.
    pub(super) rearm_at: Option<Instant>,
}

impl NewWatches {
    pub(super) fn new(pidfds: Option<NewPidfds>, max: usize) -> Self {
        Self {
            pidfds: pidfds.map(Arc::new),
            watches: Vec::with_capacity(max),
            max,
            readable: false,
            ended: Vec::new(),
            rearm_at: None,
        }
    }

    pub(super) fn pidfds(&self) -> Option<Arc<NewPidfds>> {
        self.pidfds.clone()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.watches.is_empty()
    }

    /// Removes one of them, by its key.
    fn take(&mut self, key: u32) -> Option<()> {
        let index = self.watches.iter().position(|(_, other)| *other == key)?;
        self.watches.swap_remove(index);
        Some(())
    }
}

impl Uring {
    /// Arms the poll of the epoll. Multishot: each wake-up of the epoll is one completion.
    pub(super) fn arm_new_pidfds(&mut self) -> io::Result<()> {
        let Some(pidfds) = &self.new_watches.pidfds else {
            return Ok(());
        };
        let poll = opcode::PollAdd::new(Fd(pidfds.as_fd().as_raw_fd()), libc::POLLIN as u32)
            .multi(true)
            .build();
        self.ring.push(poll.user_data(Token::NEW_PIDFDS.pack()))
    }

    pub(super) fn new_pidfds_completed(&mut self, completion: &Completion) -> io::Result<()> {
        self.new_watches.readable = true;
        if completion.more {
            return Ok(());
        }
        if completion.result < 0 {
            // It failed for lack of memory, and would fail again at once.
            self.new_watches.rearm_at = Some(Instant::now() + RETRY_DELAY);
            return Ok(());
        }
        self.arm_new_pidfds()
    }

    /// Adds a watch whose pidfd is in the epoll.
    pub(super) fn insert_new(&mut self, guard: DeliveryGuard, pidfd: OwnedFd) -> io::Result<()> {
        if self.new_watches.watches.len() >= self.new_watches.max {
            self.arm_all_new()?;
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
        if !std::mem::take(&mut self.new_watches.readable) {
            return;
        }
        if let Some(pidfds) = &self.new_watches.pidfds {
            pidfds.read_ended(&mut self.new_watches.ended);
        }
    }

    /// Ends the watches whose pidfds were read. To be called after commands were carried out.
    ///
    /// `all`: no command is left. Otherwise the command of a pidfd may be among those left, and the
    /// epoll is read again.
    pub(super) fn end_new(&mut self, all: bool, events: &mut Vec<Event>) -> io::Result<()> {
        for raw in std::mem::take(&mut self.new_watches.ended) {
            let watches = &self.new_watches.watches;
            match watches.iter().find(|(other, _)| *other == raw) {
                Some(&(_, key)) => self.end_one_new(key, events)?,
                None => self.new_watches.readable |= !all,
            }
        }
        Ok(())
    }

    fn end_one_new(&mut self, key: u32, events: &mut Vec<Event>) -> io::Result<()> {
        if self.slots.is_abandoned(key) {
            return self.disarm_new(key, events);
        }
        self.remove_new(key);
        match self.slots.get(key).guard.record().ownership() {
            Ownership::Owned => {
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
            }
            Ownership::Child | Ownership::NotChild => self.ended_with_pidfd(key, events),
        }
        Ok(())
    }

    /// Ends an abandoned watch.
    pub(super) fn disarm_new(&mut self, key: u32, events: &mut Vec<Event>) -> io::Result<()> {
        self.remove_new(key);
        self.disarmed(key, events)
    }

    /// Arms all new watches in the ring.
    pub(super) fn arm_all_new(&mut self) -> io::Result<()> {
        // The epoll is not read again for them: a poll of an ended process completes at once.
        while let Some(&(_, key)) = self.new_watches.watches.last() {
            if self.slots.is_abandoned(key) {
                let mut events = std::mem::take(&mut self.pending_events);
                let disarmed = self.disarm_new(key, &mut events);
                self.pending_events = events;
                disarmed?;
                continue;
            }
            self.remove_new(key);
            let identity = PidIdentity::Owned(None);
            let identity = std::mem::replace(&mut self.slots.get(key).identity, identity);
            if let PidIdentity::Pidfd(pidfd) = identity {
                self.open_pidfds -= 1;
                self.arm_with_pidfd(key, pidfd)?;
            }
        }
        Ok(())
    }

    /// Removes a watch from the list, and its pidfd from the epoll.
    fn remove_new(&mut self, key: u32) {
        let listed = self.new_watches.take(key);
        debug_assert!(listed.is_some(), "a new watch is in the list");
        if let (Some(pidfds), PidIdentity::Pidfd(pidfd)) =
            (&self.new_watches.pidfds, &self.slots.get(key).identity)
        {
            pidfds.remove(pidfd.as_fd());
        }
    }
}

#[cfg(test)]
mod tests;
