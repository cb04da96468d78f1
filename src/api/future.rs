//! Waiting for an exit without blocking a thread.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::record::WakerKey;
use crate::{Child, Closed, Exit, Watch};

/// The exit of a watched process, to be awaited. Made by [`Watch::exited`] and [`Child::exited`], and by awaiting a
/// reference to either.
///
/// Works under any executor. May be dropped at any time, and be one of many: each costs the same, however many there are.
#[must_use = "a future does nothing until it is awaited"]
pub struct Exited<'a> {
    watch: &'a Watch,
    /// Whose standard input is to be closed first.
    child: Option<&'a Child>,
    waker: WakerKey,
}

impl<'a> Exited<'a> {
    pub(crate) fn new(watch: &'a Watch) -> Self {
        Self {
            watch,
            child: None,
            waker: None,
        }
    }

    pub(crate) fn of_child(child: &'a Child) -> Self {
        Self {
            child: Some(child),
            ..Self::new(child)
        }
    }
}

impl Future for Exited<'_> {
    type Output = Result<Exit, Closed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(child) = self.child.take() {
            child.close_stdin();
        }
        let Self { watch, waker, .. } = &mut *self;
        watch.poll_exit(waker, context.waker())
    }
}

impl Drop for Exited<'_> {
    fn drop(&mut self) {
        self.watch.forget_waker(self.waker);
    }
}

impl fmt::Debug for Exited<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Exited").field(&self.watch).finish()
    }
}

/// The exit of a watched process, to be awaited, with the [`Watch`] or [`Child`] that it is of. Made by awaiting that: so
/// `watcher.spawn(&mut command)?.await` is a future that borrows nothing, and `tokio::spawn(child.into_future())` is possible.
///
/// Dropping it drops the watch or the child.
#[must_use = "a future does nothing until it is awaited"]
pub struct OwnedExited<T: AsRef<Watch>> {
    of: T,
    close_stdin: Option<fn(&T)>,
    waker: WakerKey,
}

/// It holds no reference to itself.
impl<T: AsRef<Watch>> Unpin for OwnedExited<T> {}

impl<T: AsRef<Watch>> Future for OwnedExited<T> {
    type Output = Result<Exit, Closed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self {
            of,
            close_stdin,
            waker,
        } = &mut *self;
        if let Some(close_stdin) = close_stdin.take() {
            close_stdin(of);
        }
        (*of).as_ref().poll_exit(waker, context.waker())
    }
}

impl<T: AsRef<Watch>> Drop for OwnedExited<T> {
    fn drop(&mut self) {
        self.of.as_ref().forget_waker(self.waker);
    }
}

impl<T: AsRef<Watch>> fmt::Debug for OwnedExited<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OwnedExited")
            .field(self.of.as_ref())
            .finish()
    }
}

impl AsRef<Watch> for Watch {
    fn as_ref(&self) -> &Watch {
        self
    }
}

impl AsRef<Watch> for Child {
    fn as_ref(&self) -> &Watch {
        self
    }
}

impl IntoFuture for Watch {
    type Output = Result<Exit, Closed>;
    type IntoFuture = OwnedExited<Watch>;

    fn into_future(self) -> Self::IntoFuture {
        OwnedExited {
            of: self,
            close_stdin: None,
            waker: None,
        }
    }
}

impl IntoFuture for Child {
    type Output = Result<Exit, Closed>;
    type IntoFuture = OwnedExited<Child>;

    fn into_future(self) -> Self::IntoFuture {
        OwnedExited {
            of: self,
            close_stdin: Some(Child::close_stdin),
            waker: None,
        }
    }
}

impl<'a> IntoFuture for &'a Watch {
    type Output = Result<Exit, Closed>;
    type IntoFuture = Exited<'a>;

    fn into_future(self) -> Self::IntoFuture {
        self.exited()
    }
}

impl<'a> IntoFuture for &'a Child {
    type Output = Result<Exit, Closed>;
    type IntoFuture = Exited<'a>;

    fn into_future(self) -> Self::IntoFuture {
        self.exited()
    }
}
