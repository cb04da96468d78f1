//! Locks and what belongs to them: the standard library's, or in models the model checker's.

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
