//! What threads and processes coordinate by: locks, and who waits for whom.
//!
//! Locks are the standard library's; in the models they are loom's. The modules here know
//! nothing of watches. [`wait_graph`] refuses waits that would deadlock, [`per_process`] tells a
//! forked child from its parent, [`signal_mask`] says which signals our threads block, and
//! [`shrink`] frees the memory that a burst of exits needed.

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
