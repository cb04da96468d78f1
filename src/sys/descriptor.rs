//! Descriptors, and the limit on their number.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

use rustix::event::{EventfdFlags, eventfd};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::faults;
use crate::sync::per_process::PerProcess;

/// The soft limit on open descriptors.
pub(crate) fn descriptor_limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Runs `f` with the soft limit on open descriptors raised to the hard limit, which it passes to
/// `f`.
///
/// The limit applies to the whole process, so another thread may get a descriptor above the soft
/// limit meanwhile. Restoring the limit closes no descriptor.
pub(crate) fn with_raised_descriptor_limit<T>(f: impl FnOnce(u64) -> T) -> T {
    // One thread at a time: a second thread would take the raised limit for the one to restore.
    static RAISED: PerProcess<Mutex<()>> = PerProcess::new();
    let _raised = RAISED.get().lock().unwrap_or_else(PoisonError::into_inner);
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: before.maximum,
        maximum: before.maximum,
    };
    let now = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => raised.current,
        Err(_) => before.current,
    };
    let value = f(now.unwrap_or(u64::MAX));
    if now != before.current {
        // Cannot fail: a process may always lower its soft limit.
        let _ = setrlimit(Resource::Nofile, before);
    }
    value
}

/// The inode number of an open file. For a pidfd it identifies a process on pidfs only.
pub(crate) fn inode(fd: BorrowedFd<'_>) -> Option<u64> {
    Some(rustix::fs::fstat(fd).ok()?.st_ino)
}

/// Duplicates a descriptor that the caller knows to be open, with close-on-exec.
pub(crate) fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    faults::inject("fcntl")?;
    // SAFETY: the borrow lasts for this call, and the caller knows that the descriptor is open.
    unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned()
}

/// Closes the copy of a descriptor in a forked child, where its owner is never dropped.
pub(crate) fn close_in_child(fd: &OwnedFd) {
    // SAFETY: the owner is in the memory of a child that ends by `_exit`, and is not used again.
    unsafe { libc::close(fd.as_raw_fd()) };
}

/// Opens an eventfd.
pub(crate) fn open_eventfd(flags: EventfdFlags) -> io::Result<OwnedFd> {
    faults::inject("eventfd")?;
    Ok(eventfd(0, flags)?)
}

/// Makes an eventfd readable.
pub(crate) fn signal_eventfd(eventfd: impl AsFd) {
    // Fails only if the counter is at its maximum, in which case the eventfd is readable already.
    let _ = rustix::io::write(eventfd, &1u64.to_ne_bytes());
}
