//! Waiting for an exit without blocking a thread.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use crate::{Closed, Exit, Watch};

/// The exit of a watched process, to be awaited. Made by [`Watch::exited`].
///
/// Works under any executor. May be dropped at any time, and be one of many.
#[must_use = "a future does nothing until it is awaited"]
pub struct Exited<'a> {
    watch: &'a Watch,
    id: u64,
}

impl<'a> Exited<'a> {
    pub(crate) fn new(watch: &'a Watch) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            watch,
            id: NEXT.fetch_add(1, Ordering::Relaxed),
        }
    }
}

impl Future for Exited<'_> {
    type Output = Result<Exit, Closed>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.watch.poll_exit(self.id, context.waker()) {
            Some(result) => Poll::Ready(result),
            None => Poll::Pending,
        }
    }
}

impl Drop for Exited<'_> {
    fn drop(&mut self) {
        self.watch.forget_future(self.id);
    }
}

impl fmt::Debug for Exited<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Exited").field(&self.watch).finish()
    }
}
