//! What a forked child waits behind until its parent is ready for it.

use std::os::fd::OwnedFd;

use rustix::io::read;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};

use crate::error::{NoDescriptors, SystemError, WatchError};
use crate::faults;
use crate::sys;

/// A pair of sockets. It is opened by sending, not by closing: other children forked meanwhile have
/// copies of the sending end. Not a pipe: writing to one that a killed child has closed is a
/// SIGPIPE.
pub(crate) struct Gate {
    inside: OwnedFd,
    outside: OwnedFd,
}

impl Gate {
    pub(crate) fn new() -> Result<Self, WatchError> {
        let pair = faults::inject("socketpair").and_then(|()| {
            Ok(socketpair(
                AddressFamily::UNIX,
                SocketType::STREAM,
                SocketFlags::CLOEXEC,
                None,
            )?)
        });
        let (inside, outside) = pair.map_err(|source| {
            match source.raw_os_error().and_then(NoDescriptors::from_errno) {
                Some(none) => WatchError::from(none),
                None => SystemError {
                    call: "socketpair",
                    source,
                }
                .into(),
            }
        })?;
        Ok(Self { inside, outside })
    }

    /// In the child: waits until the gate is open, or the parent gone. Async-signal-safe.
    pub(crate) fn pass(&self) {
        // Our copy of the sending end, or the parent's end would go unnoticed. It is not closed again:
        // the child ends without dropping anything of its parent's.
        sys::close_in_child(&self.outside);
        let mut byte = [0];
        while read(&self.inside, &mut byte) == Err(rustix::io::Errno::INTR) {}
    }

    /// In the parent: gives back one of the two descriptors.
    pub(crate) fn keep_opener(self) -> Opener {
        Opener(self.outside)
    }
}

/// Opens the gate.
pub(crate) struct Opener(OwnedFd);

impl Opener {
    pub(crate) fn open(&self) {
        // A byte always fits, and a child killed meanwhile needs none.
        let _ = send(&self.0, &[1], SendFlags::NOSIGNAL);
    }
}
