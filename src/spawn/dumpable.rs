//! Protection of the memory that a child with another user shares with this process.
//!
//! When a child changes its user, the kernel makes its memory non-dumpable (`commit_creds`), so that
//! the new user can neither trace the child nor read the memory (`ptrace(2)`). The memory is also
//! that of this process, which would stay non-dumpable. So the flag is restored, but only after all
//! such children have left the memory. A return of the clone does not show that: the kernel resumes
//! the parent a moment before it replaces the memory of the child.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{DumpableBehavior, dumpable_behavior, set_dumpable_behavior};

use crate::faults;
use crate::sync::per_process::PerProcess;

/// Children of this process that change their user and may be in its memory.
#[derive(Default)]
struct Sharing {
    children: usize,
    /// This process was dumpable before the first of them.
    was_dumpable: bool,
}

static SHARING: PerProcess<Mutex<Sharing>> = PerProcess::new();

fn lock() -> MutexGuard<'static, Sharing> {
    SHARING.get().lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long a start waits until its child has left the memory. It takes microseconds, unless
/// another child, which has a copy of the pipe, takes long to execute its program.
const WAIT_MAX: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};

/// Held while a child that changes its user may be in the memory of this process.
pub(super) struct SharedMemory {
    /// A pipe that the child closes when it has executed its program, or has ended. The kernel
    /// closes it after it has replaced the memory.
    reader: OwnedFd,
    writer: Option<OwnedFd>,
    has_left: bool,
}

impl SharedMemory {
    pub(super) fn new() -> io::Result<Self> {
        faults::inject("pipe2")?;
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        let mut sharing = lock();
        if sharing.children == 0 {
            let behavior = dumpable_behavior();
            sharing.was_dumpable = matches!(behavior, Ok(DumpableBehavior::Dumpable));
        }
        sharing.children += 1;
        Ok(Self {
            reader,
            writer: Some(writer),
            has_left: false,
        })
    }

    /// The descriptor that the child must keep until it executes the program.
    pub(super) fn writer(&self) -> Option<RawFd> {
        self.writer.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// No child was made.
    pub(super) fn without_child(mut self) {
        self.has_left = true;
    }

    /// Blocks until the child has left the memory.
    pub(super) fn wait(mut self) {
        drop(self.writer.take());
        loop {
            let mut fds = [PollFd::from_borrowed_fd(self.reader.as_fd(), PollFlags::IN)];
            match poll(&mut fds, Some(&WAIT_MAX)) {
                Err(Errno::INTR) => {}
                // The end of the pipe.
                Ok(1) => {
                    self.has_left = true;
                    return;
                }
                _ => return,
            }
        }
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        let mut sharing = lock();
        if !self.has_left {
            // It is not known, so this process stays as it is until it exits.
            sharing.was_dumpable = false;
        }
        sharing.children -= 1;
        if sharing.children == 0 && sharing.was_dumpable {
            let _ = set_dumpable_behavior(DumpableBehavior::Dumpable);
        }
    }
}
