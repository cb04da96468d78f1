//! One callback: its id, and what becomes of it when it is cancelled.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Exit;

/// What a user gives to be called.
pub(crate) type Callback = Box<dyn FnOnce(&Exit) + Send + 'static>;

/// Names one callback. Never zero, and never given twice in a program, so an
/// id kept too long cancels nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallbackId(NonZeroU64);

impl CallbackId {
    pub(crate) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        // At a billion a second the counter wraps after 584 years.
        Self(NonZeroU64::new(id).expect("fewer than 2^64 callbacks"))
    }

    /// The id as a number.
    pub fn get(self) -> NonZeroU64 {
        self.0
    }
}

/// What [`Watch::cancel`](crate::Watch::cancel) found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "Cancel::Running means that the callback still runs"]
pub enum Cancel {
    /// The callback had not begun, and never will.
    Cancelled,
    /// There is nothing to cancel: the callback has run to its end, was cancelled before, went with
    /// its watcher, or is not one of this watch.
    NotPending,
    /// The callback runs, and cannot end before the caller returns: the caller is that
    /// callback, or one that it waits for. Only a callback, a waker, or the `Drop` of what a callback
    /// captured can get this answer.
    Running,
}
