//! Futures of an exit.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::record::WakerKey;
use crate::{Child, Closed, Exit, Watch};

/// A future of an exit that borrows the [`Watch`] or [`Child`].
///
/// [`Watch::exited`], [`Child::exited`], and awaiting a reference to either make it.
///
/// It works with any executor, can be dropped at any time, and a process can have any number of
/// them: the cost of each does not depend on their number. A thread of the watcher calls the waker. The
/// output is [`Closed`] if the watcher ends before the process.
#[must_use = "a future does nothing until it is awaited"]
pub struct Exited<'a> {
    watch: &'a Watch,
    /// The child whose standard input the first poll closes.
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

/// A future of an exit that owns the [`Watch`] or [`Child`].
///
/// Awaiting a `Watch` or a `Child` by value makes it. So `watcher.spawn(&mut command)?.await`
/// borrows nothing, and `tokio::spawn(child.into_future())` compiles. Otherwise it works like
/// [`Exited`].
///
/// Dropping it drops the watch or the child.
#[must_use = "a future does nothing until it is awaited"]
pub struct OwnedExited<T: AsRef<Watch>> {
    handle: T,
    close_stdin: Option<fn(&T)>,
    waker: WakerKey,
}

/// It holds no reference into itself.
impl<T: AsRef<Watch>> Unpin for OwnedExited<T> {}

impl<T: AsRef<Watch>> Future for OwnedExited<T> {
    type Output = Result<Exit, Closed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self {
            handle,
            close_stdin,
            waker,
        } = &mut *self;
        if let Some(close_stdin) = close_stdin.take() {
            close_stdin(handle);
        }
        (*handle).as_ref().poll_exit(waker, context.waker())
    }
}

impl<T: AsRef<Watch>> Drop for OwnedExited<T> {
    fn drop(&mut self) {
        self.handle.as_ref().forget_waker(self.waker);
    }
}

impl<T: AsRef<Watch>> fmt::Debug for OwnedExited<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OwnedExited")
            .field(self.handle.as_ref())
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
            handle: self,
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
            handle: self,
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
