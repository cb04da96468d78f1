//! The interface between the ring thread and a backend.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use super::new_pidfds::NewPidfds;
use crate::record::Record;
use crate::record::delivery_guard::DeliveryGuard;
use crate::types::exit::{Outcome, Usage};

/// A backend that watches processes: arms and disarms watches, and waits for events.
///
/// A wait also ends when the eventfd is written that the backend gets when it is opened, and when
/// its timeout expires. Records go in and come back with their event; keys and tokens stay inside.
/// Only one thread uses an engine.
///
/// An error means that the engine is broken. When a resource runs out, the engine retries until it
/// succeeds.
pub(crate) trait Engine {
    /// Watches a process. Without a pidfd, it is a child that is ours to reap: its pid cannot be
    /// reused before we reap it, so the pid is all the identity needed.
    fn arm(&mut self, guard: DeliveryGuard, pidfd: Option<OwnedFd>) -> io::Result<()>;

    /// Like [`arm`](Self::arm), after a delay: the process has ended, and its status is not
    /// available yet.
    fn arm_after_delay(&mut self, guard: DeliveryGuard, pidfd: Option<OwnedFd>) -> io::Result<()>;

    /// Stops watching an abandoned watch. One event follows, which is the process's end if that
    /// came first.
    fn disarm(&mut self, record: &Record) -> io::Result<()>;

    /// Arms the watches whose delay is over. To be called before the gauges are read and before each
    /// wait, so that a sleep does not begin with outdated gauges.
    fn retry_due(&mut self) -> io::Result<()>;

    /// Submits what is staged, waits, and collects events. It may return without an event and
    /// before the timeout.
    fn wait(
        &mut self,
        mode: WaitMode,
        timeout: Option<Duration>,
        events: &mut Vec<Event>,
    ) -> io::Result<()>;

    /// Submits what is staged.
    fn submit(&mut self) -> io::Result<()>;

    /// Closes a descriptor, at the latest with the next wait.
    fn close(&mut self, fd: OwnedFd) -> io::Result<()>;

    fn gauges(&self) -> Gauges;

    /// Where callers may add the pidfds of new watches, if the engine polls that.
    fn new_pidfds(&self) -> Option<Arc<NewPidfds>> {
        None
    }

    /// Watches a process whose pidfd was added there.
    fn insert_new(&mut self, guard: DeliveryGuard, pidfd: OwnedFd) -> io::Result<()> {
        self.arm(guard, Some(pidfd))
    }

    /// Whether there are new watches, which are not armed yet.
    fn has_new(&self) -> bool {
        false
    }

    /// Reads which processes of new watches have ended. To be called before commands are taken.
    fn read_new_pidfds(&mut self) {}

    /// Ends their watches. To be called after commands were carried out; `all` says whether all
    /// were.
    fn end_new(&mut self, _all: bool, _events: &mut Vec<Event>) -> io::Result<()> {
        Ok(())
    }

    /// Arms all new watches.
    fn arm_all_new(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What happened to a watch.
pub(crate) enum Event {
    /// The process ended.
    Ended(DeliveryGuard, StatusSource),
    /// The abandoned watch was removed, as requested.
    Disarmed,
}

/// How to get the status of a process that has ended.
pub(crate) enum StatusSource {
    /// By this pidfd, which certainly belongs to the process. Return it with [`Engine::close`].
    Pidfd(OwnedFd),
    /// By reaping: the child is ours, and nothing else should have reaped it.
    Owned {
        /// The pidfd to reap by, if the backend holds one; otherwise reap by pid.
        pidfd: Option<OwnedFd>,
        /// The inode number of the child's pidfds.
        inode: Option<u64>,
        /// Whether the child may have ended more than [`PID_REUSE_MIN`] ago.
        maybe_reused: bool,
    },
    /// The backend has read the status already.
    Status(Outcome, Option<Usage>),
    /// Not available: the process was reaped, and nothing kept its identity.
    Reaped,
    /// Not available: no descriptor could be opened, for this errno.
    NoDescriptor(i32),
}

/// The time within which a pid is not reused.
///
/// The kernel reuses a pid only after it has assigned all others: at least 300 (`kernel.pid_max`),
/// and 32,768 by default. That takes longer than this, unless a program forces the reuse
/// (`kernel.ns_last_pid`). It is also longer than a batch of exits takes in a burst.
pub(crate) const PID_REUSE_MIN: Duration = Duration::from_millis(4);

/// How to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitMode {
    /// Do not wait; collect what is available.
    Poll,
    /// Wait for the first event.
    One,
    /// Wait for many events, or until a short time after the first.
    Batch,
}

/// The current counts of a backend.
pub(crate) struct Gauges {
    /// Watches whose end the kernel will report by itself.
    pub(crate) armed: usize,
    /// Watches that hold a descriptor.
    pub(crate) open_pidfds: usize,
    /// Calls that entered the kernel to submit or to wait.
    pub(crate) enters: u64,
}

/// The shorter of two timeouts, where `None` means no timeout.
pub(super) fn earlier(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// The errno, if it says that no descriptor is available.
pub(super) fn no_descriptor_errno(error: &io::Error) -> Option<i32> {
    let errno = error.raw_os_error()?;
    matches!(errno, libc::EMFILE | libc::ENFILE | libc::ENOMEM).then_some(errno)
}

/// Whether an error of `pidfd_open` says that no process has the pid: none at all, or a thread has
/// it as its id (`EINVAL`; `ENOENT` from Linux 6.9 on). Other errors say nothing about the process,
/// such as that of a seccomp filter which was installed after the trial at the start.
pub(super) fn is_no_process(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ESRCH | libc::EINVAL | libc::ENOENT)
    )
}
