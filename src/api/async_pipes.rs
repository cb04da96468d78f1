//! Pipes of a child, and its output, on a runtime of tokio.

use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::{Pin, pin};
use std::process::{ChildStderr, ChildStdin, ChildStdout};
use std::task::Poll;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::unix::pipe::{Receiver, Sender};

use super::output::Collected;
use crate::error::{OutputError, WaitError};
use crate::{Child, Exit, Exited, Output, Pipe};

impl Pipe<ChildStdin> {
    /// Takes the end out as a [`tokio::io::AsyncWrite`]; `None` as for [`take`](Self::take). Its
    /// drop closes the pipe.
    ///
    /// # Errors
    ///
    /// The end cannot be registered with the runtime.
    ///
    /// # Panics
    ///
    /// Outside of a runtime of tokio with IO enabled.
    pub fn take_async(&self) -> io::Result<Option<Sender>> {
        let end = self.take().map(OwnedFd::from);
        end.map(Sender::from_owned_fd).transpose()
    }
}

macro_rules! readers {
    ($($end:ty),*) => {$(
        impl Pipe<$end> {
            /// Takes the end out as a [`tokio::io::AsyncRead`]; `None` as for
            /// [`take`](Self::take).
            ///
            /// # Errors
            ///
            /// The end cannot be registered with the runtime.
            ///
            /// # Panics
            ///
            /// Outside of a runtime of tokio with IO enabled.
            pub fn take_async(&self) -> io::Result<Option<Receiver>> {
                let end = self.take().map(OwnedFd::from);
                end.map(Receiver::from_owned_fd).transpose()
            }
        }
    )*};
}

readers!(ChildStdout, ChildStderr);

impl Child {
    /// Closes standard input, reads standard output and standard error to their ends, and waits
    /// until the child has ended: [`output`](Self::output) as a future.
    ///
    /// At most the first `limit` bytes of each stream are kept. If the future is dropped before its
    /// end, the child is killed, with the process group that it leads.
    ///
    /// ```
    /// use exitring::{Command, Stdio, Watcher};
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(async {
    /// let watcher = Watcher::new()?;
    /// let mut command = Command::new("echo");
    /// command.arg("hello").stdout(Stdio::piped());
    /// let child = watcher.spawn_async(command).await?;
    /// let output = child.output_async(1 << 20).await?;
    /// assert_eq!(output.stdout, b"hello\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`OutputError::Read`] if a pipe cannot be read, [`OutputError::Wait`] if the watcher ends
    /// first. Both drop the child handle, and the child lives on.
    ///
    /// # Panics
    ///
    /// Outside of a runtime of tokio with IO enabled.
    pub fn output_async(
        self,
        limit: usize,
    ) -> impl Future<Output = Result<Output, OutputError>> + Send {
        // Also kills the child if the future is dropped before its first poll.
        let mut child = KillOnDrop(Some(self));
        async move {
            let output = child.collect(limit).await;
            // Dropped instead of killed, if an error ended the future.
            drop(child.0.take());
            output
        }
    }
}

/// Kills the child, unless it is taken out.
struct KillOnDrop(Option<Child>);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some(child) = &self.0 {
            child.kill_all();
        }
    }
}

impl KillOnDrop {
    async fn collect(&self, limit: usize) -> Result<Output, OutputError> {
        let Some(child) = &self.0 else {
            unreachable!("it is taken out after this future");
        };
        child.close_stdin();
        let stdout = child.stdout.take_async().map_err(OutputError::Read)?;
        let stderr = child.stderr.take_async().map_err(OutputError::Read)?;
        let outputs = join(read(stdout, limit), read(stderr, limit));
        let (outputs, exit) = join_unless_closed(outputs, child.exited()).await?;
        let (out, err) = (outputs.0?, outputs.1?);
        Ok(Output {
            exit,
            discarded: out.discarded + err.discarded,
            stdout: out.bytes,
            stderr: err.bytes,
        })
    }
}

/// Reads a pipe to its end. Other futures of the task get their turn although the child may write
/// all the time: a poll of the pipe is pending once the task has used up its budget.
async fn read(pipe: Option<Receiver>, limit: usize) -> Result<Collected, OutputError> {
    let mut collected = Collected::default();
    let Some(mut pipe) = pipe else {
        return Ok(collected);
    };
    loop {
        let count = poll_fn(|context| {
            let mut buffer = ReadBuf::new(collected.room());
            let polled = Pin::new(&mut pipe).poll_read(context, &mut buffer);
            let count = buffer.filled().len();
            if polled.is_pending() {
                collected.keep(0, limit);
            }
            polled.map_ok(|()| count)
        });
        let count = count.await.map_err(OutputError::Read)?;
        collected.keep(count, limit);
        if count == 0 {
            return Ok(collected);
        }
    }
}

/// Waits for both. The end of the watcher ends the wait, since a pipe may be held open by other
/// processes.
async fn join_unless_closed<A: Future>(
    outputs: A,
    exited: Exited<'_>,
) -> Result<(A::Output, Exit), OutputError> {
    let (mut outputs, mut exited) = (pin!(outputs), pin!(exited));
    let (mut output, mut exit) = (None, None);
    poll_fn(move |context| {
        if exit.is_none() {
            match exited.as_mut().poll(context) {
                Poll::Ready(Ok(ended)) => exit = Some(ended),
                Poll::Ready(Err(closed)) => {
                    return Poll::Ready(Err(OutputError::Wait(WaitError::from(closed))));
                }
                Poll::Pending => {}
            }
        }
        if output.is_none() {
            if let Poll::Ready(read) = outputs.as_mut().poll(context) {
                output = Some(read);
            }
        }
        match (output.take(), exit.take()) {
            (Some(output), Some(exit)) => Poll::Ready(Ok((output, exit))),
            (read, ended) => {
                (output, exit) = (read, ended);
                Poll::Pending
            }
        }
    })
    .await
}

async fn join<A: Future, B: Future>(first: A, second: B) -> (A::Output, B::Output) {
    let (mut first, mut second) = (pin!(first), pin!(second));
    let (mut first_output, mut second_output) = (None, None);
    poll_fn(move |context| {
        if first_output.is_none() {
            if let Poll::Ready(output) = first.as_mut().poll(context) {
                first_output = Some(output);
            }
        }
        if second_output.is_none() {
            if let Poll::Ready(output) = second.as_mut().poll(context) {
                second_output = Some(output);
            }
        }
        match (first_output.take(), second_output.take()) {
            (Some(first), Some(second)) => Poll::Ready((first, second)),
            (first, second) => {
                (first_output, second_output) = (first, second);
                Poll::Pending
            }
        }
    })
    .await
}
