//! How the ring thread learns from the kernel that processes ended.
//!
//! [`Uring`] is the one backend so far. What the ring thread asks of it is five calls (arm, disarm, wait,
//! and, built into waiting, the wake-up and the timer); records go in and come
//! back with their event, keys and tokens of the kernel stay inside.
//!
//! A child that is ours to reap is known by its pid, which is nobody else's before that. What holds the
//! identity of any other process while it is watched, best first:
//!
//! 1. a slot of the ring's registered-file table (used from Linux 6.13 on): costs no descriptor, can be
//!    made one again, and then tells the status even after somebody else reaped (6.15);
//! 2. the pidfd's inode number (Linux 6.9, where it is never given twice): costs nothing, tells
//!    the status as long as the process is a zombie;
//! 3. the pidfd, kept open.

mod claims;
mod file_table;
mod ring;
mod slots;
mod support;
mod token;
mod uring;

use std::os::fd::OwnedFd;

pub(crate) use token::KEYS_MAX;
pub(crate) use uring::Uring;

use crate::duty::Duty;

/// What happened.
pub(crate) enum Event {
    /// The process ended.
    Ended(Duty, Evidence),
    /// The watch was given up, as asked.
    Disarmed,
}

/// How the process that ended can be asked for its status.
pub(crate) enum Evidence {
    /// Through this pidfd, which surely is that process's. To be given back with
    /// [`Uring::close`].
    Pidfd(OwnedFd),
    /// By its pid: it is ours to reap, and has not been.
    Ours,
    /// Not at all: it was reaped, and nothing held on to it.
    Reaped,
    /// Not at all: there was no descriptor to be had, for this errno.
    NoDescriptor(i32),
}

/// How to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Not at all: take what is there.
    None,
    /// Until something happens.
    One,
    /// Until a good many things have happened, or something and a short time has gone by.
    Batch,
}
