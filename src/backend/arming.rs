//! How a watch is armed: where its identity is kept, what is polled, and what becomes of one whose process has ended before or that has no
//! descriptor.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use io_uring::opcode;
use io_uring::types::{Fd, Fixed};

use super::engine::{StatusSource, no_descriptor};
use super::slots::{PidIdentity, Stage};
use super::token::Kind;
use super::uring::Uring;
use crate::record::{Ownership, WatchFor};
use crate::sys::{self, WaitResult, WaitTarget};

impl Uring {
    /// Puts the pidfd where the identity is kept. The result also says what to poll, and
    /// what to close once the poll is armed: the poll itself keeps the file open.
    pub(super) fn place(
        &mut self,
        pidfd: OwnedFd,
        watch_for: WatchFor,
    ) -> (PidIdentity, Target, Option<OwnedFd>) {
        if let Some(slot) = self.ring.register(&pidfd) {
            return (PidIdentity::Table(slot), Target::Slot(slot), Some(pidfd));
        }
        let target = Target::Descriptor(pidfd.as_raw_fd());
        // A process is found again by its pid only until it is reaped.
        if watch_for == WatchFor::Exited
            && self.ring.features().pidfs
            && let Some(inode) = sys::pidfs_inode(pidfd.as_fd())
        {
            return (PidIdentity::Inode(inode), target, Some(pidfd));
        }
        self.held += 1;
        (PidIdentity::Pidfd(pidfd), target, None)
    }

    pub(super) fn stage_poll(
        &mut self,
        key: u32,
        target: Target,
        close: Option<OwnedFd>,
    ) -> io::Result<()> {
        let mask = match self.slots.get(key).guard.record().watch_for() {
            WatchFor::Exited => libc::POLLIN as u32,
            // POLLHUP is always told, so this waits for nothing else (Linux 6.9).
            WatchFor::Reaped => 0,
        };
        let poll = match target {
            Target::Slot(slot) => opcode::PollAdd::new(Fixed(slot), mask).build(),
            Target::Descriptor(fd) => opcode::PollAdd::new(Fd(fd), mask).build(),
        };
        let token = self.slots.token(key, Kind::Poll);
        self.ring.push(poll.user_data(token.pack()))?;
        match close {
            // Requests are carried out in the order in which they were put in, so the poll
            // has its file by then.
            Some(pidfd) => self.ring.close(pidfd),
            None => Ok(()),
        }
    }

    /// Arms a watch whose slot is filled: a child of ours, or again, because the poll failed or the
    /// process was not quite over.
    pub(super) fn rearm(&mut self, key: u32) -> io::Result<()> {
        let (target, close) = match self.slots.get(key).hold {
            PidIdentity::Table(slot) => (Target::Slot(slot), None),
            PidIdentity::Pidfd(ref pidfd) => (Target::Descriptor(pidfd.as_raw_fd()), None),
            PidIdentity::Inode(_) | PidIdentity::Owned(_) => match self.reopen(key)? {
                Reopened::Pidfd(pidfd) => (Target::Descriptor(pidfd.as_raw_fd()), Some(pidfd)),
                Reopened::Ended(pidfd) => {
                    // One system call, as an enter for it would be; and often there is nothing else to enter for.
                    drop(pidfd);
                    let inode = self.slots.get(key).inode();
                    let source = StatusSource::Owned {
                        pidfd: None,
                        inode,
                        late: false,
                    };
                    return self.ended_early(key, source);
                }
                Reopened::Reaped => return self.ended_early(key, StatusSource::Reaped),
                Reopened::NoDescriptor(_) => return self.without_descriptor(key),
            },
        };
        self.slots.set_stage(key, Stage::Armed);
        self.stage_poll(key, target, close)?;
        if self.spare.is_none() {
            // Opened with the last descriptor there was: give it back, and set one aside.
            self.ring.submit()?;
            self.refill_spare();
        }
        Ok(())
    }

    /// Nothing can be armed for want of a descriptor. A child of ours that has ended needs none.
    fn without_descriptor(&mut self, key: u32) -> io::Result<()> {
        let slot = self.slots.get(key);
        if let PidIdentity::Owned(inode) = slot.hold
            && !matches!(
                sys::waitid(WaitTarget::PeekPid(slot.guard.record().pid())),
                Ok(WaitResult::Pending)
            )
        {
            // Nobody looked for as long as there was no descriptor.
            let source = StatusSource::Owned {
                pidfd: None,
                inode,
                late: true,
            };
            return self.ended_early(key, source);
        }
        self.rest(key);
        Ok(())
    }

    /// As [`ended`](Self::ended), while arming.
    pub(super) fn ended_early(&mut self, key: u32, source: StatusSource) -> io::Result<()> {
        let mut early = std::mem::take(&mut self.early);
        let result = self.ended(key, source, &mut early);
        self.early = early;
        result
    }

    /// Opens a pidfd of a process by its pid, if it is still the same process.
    pub(super) fn reopen(&mut self, key: u32) -> io::Result<Reopened> {
        let slot = self.slots.get(key);
        let (pid, ownership, inode) = (
            slot.guard.record().pid(),
            slot.guard.record().ownership(),
            slot.inode(),
        );
        let mut pidfd = sys::pidfd_open(pid);
        if is_no_descriptor(&pidfd) {
            // Some closes may only be staged.
            self.ring.submit()?;
            pidfd = sys::pidfd_open(pid);
        }
        if is_no_descriptor(&pidfd) && self.spare.take().is_some() {
            pidfd = sys::pidfd_open(pid);
        }
        Ok(match pidfd {
            // The pid may be another's by now. The inode number is never.
            Ok(pidfd) if inode.is_some() && sys::pidfs_inode(pidfd.as_fd()) != inode => {
                Reopened::Reaped
            }
            // It is ours to reap, unless something else has reaped it and its pid is a stranger's.
            Ok(pidfd) if ownership == Ownership::Owned => {
                if inode.is_none() && self.ring.features().pidfs {
                    self.slots.get(key).hold = PidIdentity::Owned(sys::inode(pidfd.as_fd()));
                }
                match sys::waitid(WaitTarget::PeekPidfd(pidfd.as_fd())) {
                    Ok(WaitResult::NoChild) => Reopened::Reaped,
                    Ok(WaitResult::Ended(..)) => Reopened::Ended(pidfd),
                    _ => Reopened::Pidfd(pidfd),
                }
            }
            Ok(pidfd) => Reopened::Pidfd(pidfd),
            Err(error) => match no_descriptor(&error) {
                Some(errno) => Reopened::NoDescriptor(errno),
                // Nobody has the pid, or a thread has it.
                None => Reopened::Reaped,
            },
        })
    }
}

/// What came of opening a pidfd again.
pub(super) enum Reopened {
    Pidfd(OwnedFd),
    /// A child of ours, which has ended.
    Ended(OwnedFd),
    Reaped,
    NoDescriptor(i32),
}

fn is_no_descriptor<T>(result: &io::Result<T>) -> bool {
    matches!(result, Err(error) if no_descriptor(error).is_some())
}

/// What a poll is armed on.
pub(super) enum Target {
    Slot(u32),
    Descriptor(RawFd),
}
