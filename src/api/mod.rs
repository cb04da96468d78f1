//! The public handles: what a program calls.
//!
//! A call runs on the caller's thread. It changes the process's [`record`](crate::record), or
//! sends a command to the [`ring thread`](crate::ring_thread), and returns; calls that wait say
//! so. No other module of the crate calls into this one, with two exceptions: the queue behind
//! [`exits`] receives exits from a record, and a record stores the wakers of [`future`].
//! [`compat`](crate::compat) is built on this API alone.

pub(crate) mod builder;
pub(crate) mod child;
pub(crate) mod exits;
pub(crate) mod future;
pub(crate) mod output;
pub(crate) mod pidfd;
pub(crate) mod pipe;
pub(crate) mod spawn;
pub(crate) mod watch;
pub(crate) mod watcher;
