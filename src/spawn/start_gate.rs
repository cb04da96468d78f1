//! A gate at which a forked child waits until its parent has prepared the watch.

use std::os::fd::OwnedFd;

use rustix::io::read;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};

use crate::error::{NoDescriptors, SystemError, WatchError};
use crate::faults;
use crate::sys;

/// A gate made of a pair of sockets.
///
/// A byte opens it, not the end of the stream: other children that are forked meanwhile have copies
/// of the parent's end. It is not a pipe, because a write to a pipe whose reader was killed raises
/// `SIGPIPE`.
pub(crate) struct StartGate {
    child_end: OwnedFd,
    parent_end: OwnedFd,
}

impl StartGate {
    pub(crate) fn new() -> Result<Self, WatchError> {
        let pair = faults::inject("socketpair").and_then(|()| {
            Ok(socketpair(
                AddressFamily::UNIX,
                SocketType::STREAM,
                SocketFlags::CLOEXEC,
                None,
            )?)
        });
        let (child_end, parent_end) = pair.map_err(|source| {
            match source.raw_os_error().and_then(NoDescriptors::from_errno) {
                Some(error) => WatchError::from(error),
                None => SystemError {
                    call: "socketpair",
                    source,
                }
                .into(),
            }
        })?;
        Ok(Self {
            child_end,
            parent_end,
        })
    }

    /// Blocks the child until the gate is open or the parent has ended. Async-signal-safe.
    pub(crate) fn wait(&self) {
        // With its own copy of the parent's end open, the child would not notice that the parent
        // ended. The owner does not close it again: the child ends without dropping values of the
        // parent.
        sys::close_in_child(&self.parent_end);
        let mut byte = [0];
        while read(&self.child_end, &mut byte) == Err(rustix::io::Errno::INTR) {}
    }

    /// Closes the child's end in the parent.
    pub(crate) fn into_opener(self) -> GateOpener {
        GateOpener(self.parent_end)
    }
}

/// The parent's end of a [`StartGate`].
pub(crate) struct GateOpener(OwnedFd);

impl GateOpener {
    pub(crate) fn open(&self) {
        // The buffer always has space for one byte. If it fails, the child was killed.
        let _ = send(&self.0, &[1], SendFlags::NOSIGNAL);
    }
}
