//! Arming a watch in the ring: stores the process's identity and stages the poll.
//!
//! Arming can also find that the process has already ended, or that no descriptor is available. In
//! both cases this file decides how the watch continues.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use io_uring::opcode;
use io_uring::types::{Fd, Fixed};

use super::engine::{StatusSource, is_no_process, no_descriptor_errno};
use super::slots::{Inode, PidIdentity, Stage};
use super::token::Kind;
use super::uring::Uring;
use crate::record::{Ownership, Record, WatchFor};
use crate::sys::{self, WaitResult, WaitTarget};

impl Uring {
    /// Stores the pidfd where the identity is kept. The result also names what to poll, and the
    /// descriptor to close once the poll is armed: an armed poll keeps the file open by itself.
    pub(super) fn store_identity(
        &mut self,
        pidfd: OwnedFd,
        record: &Record,
    ) -> (PidIdentity, PollTarget, Option<OwnedFd>) {
        let target = PollTarget::Descriptor(pidfd.as_raw_fd());
        if record.ownership() == Ownership::Owned {
            let inode = match self.ring.features().pidfs {
                true => sys::inode(pidfd.as_fd()).map(Inode::new),
                false => None,
            };
            return (PidIdentity::Owned(inode), target, Some(pidfd));
        }
        if let Some(slot) = self.ring.register(&pidfd) {
            return (
                PidIdentity::Table(slot),
                PollTarget::Slot(slot),
                Some(pidfd),
            );
        }
        // The pid finds the process again only until the process is reaped.
        if record.watch_for() == WatchFor::Exited && self.ring.features().pidfs {
            if let Some(inode) = sys::pidfs_inode(pidfd.as_fd()) {
                return (PidIdentity::Inode(Inode::new(inode)), target, Some(pidfd));
            }
        }
        self.open_pidfds += 1;
        (PidIdentity::Pidfd(pidfd), target, None)
    }

    /// Arms the watch in a slot with a pidfd that certainly belongs to the process.
    pub(super) fn arm_with_pidfd(&mut self, key: u32, pidfd: OwnedFd) -> io::Result<()> {
        let record = Arc::clone(self.slots.get(key).guard.record());
        let (identity, target, close) = self.store_identity(pidfd, &record);
        self.slots.get(key).identity = identity;
        self.slots.set_stage(key, Stage::Armed);
        self.stage_poll(key, target, close)
    }

    /// Whether another part of the program has reaped a child that is ours to reap. From Linux 6.9
    /// on, the poll and the inode number show it later.
    pub(super) fn is_reaped_elsewhere(&mut self, key: u32, pidfd: &OwnedFd) -> bool {
        !self.ring.features().pidfs
            && self.slots.get(key).guard.record().ownership() == Ownership::Owned
            && matches!(
                sys::waitid(WaitTarget::PeekPidfd(pidfd.as_fd())),
                Ok(WaitResult::NoChild)
            )
    }

    fn stage_poll(
        &mut self,
        key: u32,
        target: PollTarget,
        close: Option<OwnedFd>,
    ) -> io::Result<()> {
        let mask = match self.slots.get(key).guard.record().watch_for() {
            WatchFor::Exited => libc::POLLIN as u32,
            // The kernel always reports POLLHUP, so an empty mask waits for nothing else (Linux
            // 6.9).
            WatchFor::Reaped => 0,
        };
        let poll = match target {
            PollTarget::Slot(slot) => opcode::PollAdd::new(Fixed(slot), mask).build(),
            PollTarget::Descriptor(fd) => opcode::PollAdd::new(Fd(fd), mask).build(),
        };
        let token = self.slots.token(key, Kind::Poll);
        self.ring.push(poll.user_data(token.pack()))?;
        match close {
            // The kernel carries out requests in submission order, so the poll holds its file by
            // then.
            Some(pidfd) => self.ring.close(pidfd),
            None => Ok(()),
        }
    }

    /// Arms the watch in a slot: a child of ours, or any watch again because its poll failed or its
    /// status was not available yet.
    pub(super) fn arm_slot(&mut self, key: u32) -> io::Result<()> {
        let (target, close) = match self.slots.get(key).identity {
            PidIdentity::Table(slot) => (PollTarget::Slot(slot), None),
            PidIdentity::Pidfd(ref pidfd) => (PollTarget::Descriptor(pidfd.as_raw_fd()), None),
            PidIdentity::Inode(_) | PidIdentity::Owned(_) => match self.reopen(key)? {
                Reopened::Pidfd(pidfd) => (PollTarget::Descriptor(pidfd.as_raw_fd()), Some(pidfd)),
                Reopened::Ended(pidfd) => {
                    // Closing directly costs one system call, as an enter for a staged close would;
                    // and often there is nothing else to enter for.
                    drop(pidfd);
                    let inode = self.slots.get(key).inode();
                    let source = StatusSource::Owned {
                        pidfd: None,
                        inode,
                        maybe_reused: false,
                    };
                    return self.ended_while_arming(key, source);
                }
                Reopened::Reaped => return self.ended_while_arming(key, StatusSource::Reaped),
                Reopened::NoDescriptor(_) => return self.arm_without_descriptor(key),
            },
        };
        self.slots.set_stage(key, Stage::Armed);
        self.stage_poll(key, target, close)?;
        if self.spare.is_none() {
            // The pidfd took the last available descriptor. Submit its close, and set a spare aside
            // again.
            self.ring.submit()?;
            self.refill_spare();
        }
        Ok(())
    }

    /// Handles a watch that cannot be armed for lack of a descriptor. A child of ours that has
    /// ended needs none.
    fn arm_without_descriptor(&mut self, key: u32) -> io::Result<()> {
        let slot = self.slots.get(key);
        if let PidIdentity::Owned(_) = slot.identity {
            let status = sys::waitid(WaitTarget::PeekPid(slot.guard.record().pid()));
            if !matches!(status, Ok(WaitResult::Pending)) {
                // Nothing has checked this child since the shortage began.
                let source = StatusSource::Owned {
                    pidfd: None,
                    inode: slot.inode(),
                    maybe_reused: true,
                };
                return self.ended_while_arming(key, source);
            }
        }
        self.retry_later(key);
        Ok(())
    }

    /// Like [`ended`](Self::ended), for a watch that ends while it is being armed.
    pub(super) fn ended_while_arming(&mut self, key: u32, source: StatusSource) -> io::Result<()> {
        let mut pending_events = std::mem::take(&mut self.pending_events);
        let result = self.ended(key, source, &mut pending_events);
        self.pending_events = pending_events;
        result
    }

    /// Opens a new pidfd by pid, if the pid still belongs to the same process.
    pub(super) fn reopen(&mut self, key: u32) -> io::Result<Reopened> {
        let slot = self.slots.get(key);
        let (pid, ownership, inode) = (
            slot.guard.record().pid(),
            slot.guard.record().ownership(),
            slot.inode(),
        );
        let mut pidfd = sys::pidfd_open(pid);
        if is_descriptor_shortage(&pidfd) {
            // New watches hold a descriptor each, and some closes may only be staged. Submitting
            // them can free descriptors.
            self.arm_all_new()?;
            self.ring.submit()?;
            pidfd = sys::pidfd_open(pid);
        }
        if is_descriptor_shortage(&pidfd) && self.spare.take().is_some() {
            pidfd = sys::pidfd_open(pid);
        }
        Ok(match pidfd {
            // The pid may belong to another process by now. An inode number is never reused.
            Ok(pidfd) if inode.is_some() && sys::pidfs_inode(pidfd.as_fd()) != inode => {
                Reopened::Reaped
            }
            // The child is ours to reap. If another part of the program has reaped it, the pid may
            // belong to an unrelated process.
            Ok(pidfd) if ownership == Ownership::Owned => {
                if inode.is_none() && self.ring.features().pidfs {
                    self.slots.get(key).identity =
                        PidIdentity::Owned(sys::inode(pidfd.as_fd()).map(Inode::new));
                }
                match sys::waitid(WaitTarget::PeekPidfd(pidfd.as_fd())) {
                    Ok(WaitResult::NoChild) => Reopened::Reaped,
                    Ok(WaitResult::Ended(..)) => Reopened::Ended(pidfd),
                    _ => Reopened::Pidfd(pidfd),
                }
            }
            Ok(pidfd) => Reopened::Pidfd(pidfd),
            Err(error) if is_no_process(&error) => Reopened::Reaped,
            Err(error) => Reopened::NoDescriptor(error.raw_os_error().unwrap_or(0)),
        })
    }
}

/// The result of opening a pidfd again.
pub(super) enum Reopened {
    Pidfd(OwnedFd),
    /// The pidfd of a child of ours that has ended.
    Ended(OwnedFd),
    Reaped,
    NoDescriptor(i32),
}

fn is_descriptor_shortage<T>(result: &io::Result<T>) -> bool {
    matches!(result, Err(error) if no_descriptor_errno(error).is_some())
}

/// What a poll is armed on.
pub(super) enum PollTarget {
    Slot(u32),
    Descriptor(RawFd),
}
