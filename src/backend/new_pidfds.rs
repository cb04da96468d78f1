//! The pidfds of new watches, in an epoll instance.
//!
//! A caller that registers a watch usually has to wake the ring thread, which then arms a poll in
//! the ring. While watches are being registered at a high rate, the ring thread sleeps for
//! [`SHORT_SLEEP`] at most, and callers do not wake it. They add the pidfd to this epoll instead,
//! which the ring polls. So an exit is seen at once, and a process that ends before the ring thread
//! wakes up never needs a poll of its own.
//!
//! ```text
//! caller:       add the pidfd, send the command      (both under the lock of the mailbox)
//! ring thread:  read the epoll, take the commands    (in this order)
//! ```
//!
//! So each pidfd that the ring thread reads from the epoll belongs to a command that it has taken,
//! or is about to carry out. A pidfd is removed from the epoll before it is closed, because a
//! forked child may have a copy, which keeps it in the epoll.
//!
//! The epoll only saves time. If it reports nothing, because a poll of it failed, the ring thread
//! still wakes up within [`SHORT_SLEEP`] and arms all new watches in the ring.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use crate::faults;
use crate::record::WatchFor;

/// The longest time that a watch stays in the epoll before it is armed in the ring, and the longest
/// sleep of the ring thread meanwhile.
pub(crate) const SHORT_SLEEP: Duration = Duration::from_millis(3);

pub(crate) struct NewPidfds {
    epoll: OwnedFd,
}

impl NewPidfds {
    pub(crate) fn open() -> io::Result<Self> {
        faults::inject("epoll_create1")?;
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
        })
    }

    /// Adds a pidfd. Called by the thread that registers the watch.
    pub(crate) fn add(&self, pidfd: BorrowedFd<'_>, watch_for: WatchFor) -> io::Result<()> {
        faults::inject("epoll_ctl")?;
        let flags = match watch_for {
            WatchFor::Exited => EventFlags::IN,
            // The kernel always reports EPOLLHUP, so an empty mask waits for nothing else.
            WatchFor::Reaped => EventFlags::empty(),
        };
        let data = EventData::new_u64(pidfd.as_raw_fd() as u64);
        Ok(epoll::add(&self.epoll, pidfd, data, flags)?)
    }

    /// Removes a pidfd that was added and is still open.
    pub(super) fn remove(&self, pidfd: BorrowedFd<'_>) {
        // Cannot fail: the pidfd is in the epoll.
        let _ = epoll::delete(&self.epoll, pidfd);
    }

    /// Reads the pidfds whose process has ended into `ended`, as far as its capacity allows. They
    /// stay in the epoll.
    pub(super) fn read_ended(&self, ended: &mut Vec<epoll::Event>) {
        ended.clear();
        let now = Timespec::default();
        // The only error is EINTR, after which all are armed within a short sleep.
        let _ = epoll::wait(&self.epoll, spare_capacity(ended), Some(&now));
    }
}

/// The pidfd of an event.
pub(super) fn pidfd_of(event: &epoll::Event) -> RawFd {
    event.data.u64() as RawFd
}

impl AsFd for NewPidfds {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
