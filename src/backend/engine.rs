//! What the ring thread asks of the kernel, whichever way the kernel is asked.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::record::Record;
use crate::record::delivery_guard::DeliveryGuard;
use crate::types::exit::{Outcome, Usage};

/// Arm, disarm, wait; the wake-up (by an eventfd given to it at first) and the timer are part of waiting. Records go
/// in and come back with their event; keys and tokens of the kernel stay inside. One thread uses it.
///
/// An error means that the engine is broken. What merely ran out is tried again until it works.
pub(crate) trait Engine {
    /// Watches the process behind the pidfd, which is somebody else's to reap; without a pidfd, a child that
    /// is ours to reap. Its pid cannot be another's before we do that, so it is all the identity needed.
    fn arm(&mut self, guard: DeliveryGuard, pidfd: Option<OwnedFd>) -> io::Result<()>;

    /// As [`arm`](Self::arm), after a while: the process ended, and its status is not to be had yet.
    fn arm_after_delay(&mut self, guard: DeliveryGuard, pidfd: Option<OwnedFd>) -> io::Result<()>;

    /// Stops watching what was given up. An event follows, which may be the process's end if that came first.
    fn disarm(&mut self, record: &Record) -> io::Result<()>;

    /// Carries out what was asked for, waits, and says what happened. It may return without an
    /// event, and before the time.
    fn wait(
        &mut self,
        mode: WaitMode,
        timeout: Option<Duration>,
        events: &mut Vec<Event>,
    ) -> io::Result<()>;

    /// Carries out what was asked for.
    fn submit(&mut self) -> io::Result<()>;

    /// Closes a descriptor, at the latest with the next wait.
    fn close(&mut self, fd: OwnedFd) -> io::Result<()>;

    fn gauges(&self) -> Gauges;
}

/// What happened.
pub(crate) enum Event {
    /// The process ended.
    Ended(DeliveryGuard, StatusSource),
    /// The watch was given up, as asked.
    Disarmed,
}

/// How the process that ended can be asked for its status.
pub(crate) enum StatusSource {
    /// Through this pidfd, which surely is that process's. To be given back with
    /// [`Engine::close`].
    Pidfd(OwnedFd),
    /// It is ours to reap, and nobody else is to have done that.
    Owned {
        /// By this pidfd, where one is open_pidfds; by its pid else.
        pidfd: Option<OwnedFd>,
        /// Its pidfds have this inode number.
        inode: Option<u64>,
        /// It ended longer than [`PID_REUSE_MIN`] ago, or may have.
        maybe_reused: bool,
    },
    /// It was found already.
    Status(Outcome, Usage),
    /// Not at all: it was reaped, and nothing open_pidfds on to it.
    Reaped,
    /// Not at all: there was no descriptor to be had, for this errno.
    NoDescriptor(i32),
}

/// A pid comes back only after all others were given out, 300 at the very least (`kernel.pid_max`) and 32,768 by default. In so short a
/// time it does not, unless it is forced to (`kernel.ns_last_pid`). Longer than a batch of exits takes in a storm.
pub(crate) const PID_REUSE_MIN: Duration = Duration::from_millis(4);

/// How to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitMode {
    /// Not at all: take what is there.
    Poll,
    /// Until something happens.
    One,
    /// Until a good many things have happened, or something and a short time has gone by.
    Batch,
}

/// How much of what there is.
pub(crate) struct Gauges {
    /// Watches that the kernel will tell of by itself.
    pub(crate) armed: usize,
    /// Watches that identity a descriptor.
    pub(crate) open_pidfds: usize,
    /// How often the kernel was entered to submit or to wait.
    pub(crate) enters: u64,
}

/// The shorter of two time-outs, where none is for ever.
pub(super) fn earlier(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// The errno, if it says that there was no descriptor to be had.
pub(super) fn no_descriptor_errno(error: &io::Error) -> Option<i32> {
    let errno = error.raw_os_error()?;
    matches!(errno, libc::EMFILE | libc::ENFILE | libc::ENOMEM).then_some(errno)
}
