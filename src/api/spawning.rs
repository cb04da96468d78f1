//! The future of a child that is being started.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::spawnable::Spawn;
use super::starters::{Request, Starters};
use crate::error::SpawnError;
use crate::shared::Shared;
use crate::{Child, Watcher};

impl Watcher {
    /// Starts a command without blocking the calling thread: on one of at most
    /// [`Builder::starters`](crate::Builder::starters) threads of the watcher.
    ///
    /// The first poll of the future passes the command to a thread, in the order of the polls. The
    /// future works with any executor. If it is dropped before its end, no process is left: a
    /// command that was not started yet is not started, and a child is killed, with its cgroup or the
    /// process group that it leads. (Others of a group whose leader has ended may live on.) [`Spawning::keep`] changes that.
    ///
    /// The child inherits the signal mask of the thread that built the watcher. A
    /// [`parent_death_signal`](crate::Command::parent_death_signal) comes when the watcher is
    /// dropped, and with it the thread that started the child. The child inherits the CPU affinity,
    /// nice value and scheduling of the thread that polled first when the starter was started; set
    /// them on the command if that matters.
    ///
    /// ```
    /// use exitring::{Command, Watcher};
    ///
    /// # futures_lite::future::block_on(async {
    /// let watcher = Watcher::new()?;
    /// let child = watcher.spawn_async(Command::new("true")).await?;
    /// assert!(child.await?.success());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The output is that of [`spawn`](Self::spawn). If no thread can be started,
    /// [`SpawnError::NoProcesses`] or [`SpawnError::OutOfMemory`].
    pub fn spawn_async<C: Spawn + Send + 'static>(&self, command: C) -> Spawning {
        Spawning {
            shared: Arc::clone(&self.shared),
            progress: Progress::New(Box::new(command)),
            keep: false,
        }
    }
}

/// A future of a child that is being started. [`Watcher::spawn_async`] makes it.
#[must_use = "a future does nothing until it is awaited"]
pub struct Spawning {
    shared: Arc<Shared>,
    progress: Progress,
    keep: bool,
}

enum Progress {
    New(Box<dyn Spawn + Send>),
    Submitted(Arc<Request>),
    Done,
}

impl Spawning {
    /// Lets the child live on, and a command that was polled once still be started, if the future is
    /// dropped. The child is reaped.
    pub fn keep(mut self) -> Self {
        self.keep = true;
        if let Progress::Submitted(request) = &self.progress {
            request.set_keep();
        }
        self
    }
}

/// It holds no reference into itself.
impl Unpin for Spawning {}

impl Future for Spawning {
    type Output = Result<Child, SpawnError>;

    /// # Panics
    ///
    /// If it is polled after it was ready.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Err(closed) = this.shared.check_process() {
            return Poll::Ready(Err(SpawnError::Refused(closed.into())));
        }
        match &this.progress {
            Progress::New(_) => {
                // A clone of a waker is code of the user, and may panic.
                let waker = context.waker().clone();
                if let Progress::New(command) =
                    std::mem::replace(&mut this.progress, Progress::Done)
                {
                    let request = Arc::new(Request::new(command, waker));
                    if this.keep {
                        request.set_keep();
                    }
                    Starters::submit(&this.shared, &request)?;
                    this.progress = Progress::Submitted(request);
                }
                Poll::Pending
            }
            Progress::Submitted(request) => match request.poll(context.waker()) {
                Some(result) => {
                    this.progress = Progress::Done;
                    Poll::Ready(result)
                }
                None => Poll::Pending,
            },
            Progress::Done => panic!("the future was polled after it was ready"),
        }
    }
}

impl Drop for Spawning {
    fn drop(&mut self) {
        let progress = std::mem::replace(&mut self.progress, Progress::Done);
        if self.shared.check_process().is_err() {
            // In a forked child the locks may stay locked forever.
            std::mem::forget(progress);
        } else if let Progress::Submitted(request) = progress {
            request.abandon(&self.shared);
        }
    }
}

impl fmt::Debug for Spawning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spawning")
            .field(
                "submitted",
                &matches!(self.progress, Progress::Submitted(_)),
            )
            .finish_non_exhaustive()
    }
}
