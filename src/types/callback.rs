//! Callbacks: their type, their ids, and the result of a cancellation.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Exit;

/// A callback for one exit.
pub(crate) type Callback = Box<dyn FnOnce(&Exit) + Send + 'static>;

/// The id of one callback. Never zero, and never reused within a program, so a stale id cancels
/// nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallbackId(NonZeroU64);

impl CallbackId {
    pub(crate) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        // At a billion a second the counter wraps after 584 years.
        Self(NonZeroU64::new(id).expect("fewer than 2^64 callbacks"))
    }

    /// The reverse of [`get`](Self::get).
    pub(crate) fn from_number(id: NonZeroU64) -> Self {
        Self(id)
    }

    /// The id as a number.
    pub fn get(self) -> NonZeroU64 {
        self.0
    }
}

/// The result of [`Watch::cancel`](crate::Watch::cancel).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "Cancel::Running means that the callback still runs"]
pub enum Cancel {
    /// The callback had not started and never will.
    Cancelled,
    /// There is nothing to cancel: the callback has returned, was cancelled before, was dropped
    /// with its watcher, or belongs to another watch.
    NotPending,
    /// The callback is running and cannot end before the caller returns: the caller is that
    /// callback, or a callback for which it waits. Only calls from a callback, from a waker, or
    /// from the `Drop` of a callback's captures get this result.
    Running,
}
