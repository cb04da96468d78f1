//! Coordination between threads, and between a process and its forked children.
//!
//! - [`wait_graph`] refuses waits that would deadlock.
//! - [`per_process`] distinguishes a forked child from its parent.
//! - [`signal_mask`] sets the signal masks of the threads of a watcher.
//! - [`shrink`] frees the memory that a burst of exits needed.
//!
//! The modules here know nothing of watches, and use only `sys` and `types`. All modules of the
//! crate may use them. The locks are those of the standard library, or those of loom in the models.

pub(crate) mod per_process;
pub(crate) mod shrink;
pub(crate) mod signal_mask;
pub(crate) mod wait_graph;

#[cfg(not(all(test, exitring_loom)))]
pub(crate) use std::{
    sync::{Condvar, Mutex, MutexGuard},
    thread_local,
};

#[cfg(all(test, exitring_loom))]
pub(crate) use loom::{
    sync::{Condvar, Mutex, MutexGuard},
    thread_local,
};
