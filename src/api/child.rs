//! The handle of a child that the watcher owns.

use std::fmt;
use std::ops::Deref;
use std::process::{ChildStderr, ChildStdin, ChildStdout};
use std::time::Duration;

use crate::api::output;
use crate::error::{Closed, OutputError, SignalError, WaitError};
use crate::sync::wait_graph;
use crate::{Exit, Exited, Output, Pipe, Watch};

/// A child process that the watcher owns: the watcher always reaps it, and no other code may.
///
/// [`Watcher::spawn`](crate::Watcher::spawn) and [`Watcher::adopt`](crate::Watcher::adopt) make it.
/// It dereferences to [`Watch`]. If the handle is dropped, the child continues to run and is reaped
/// when it ends, even if the watcher was dropped by then; [`kill_on_drop`](Self::kill_on_drop)
/// changes that.
///
/// A `waitpid(-1)` elsewhere in the program can take the status of the child. The outcome is then
/// [`Unknown::ReapedElsewhere`](crate::Unknown::ReapedElsewhere); nothing hangs.
///
/// ```
/// use std::process::Command;
/// use std::time::Duration;
/// use exitring::Watcher;
///
/// let watcher = Watcher::new()?;
/// let child = watcher.spawn(Command::new("sleep").arg("1000"))?;
/// child.deadline(Duration::from_millis(20), Duration::from_secs(1))?;
/// let exit = child.wait()?;
/// assert!(exit.by_deadline() && !exit.success());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Compared with the standard library's and tokio's `Child`
///
/// All methods except [`kill_on_drop`](Self::kill_on_drop) and those that read the output take a
/// shared reference, so threads can share a child, and one can wait for it while another kills it.
///
/// | there | here |
/// |---|---|
/// | `stdin`, `stdout`, `stderr` | the same: `child.stdout.take()`, `child.stdin.as_mut()` ([`Pipe`]) |
/// | `wait` (closes standard input) | [`wait`](Self::wait), [`wait_timeout`](Self::wait_timeout), `child.await` and [`exited`](Self::exited), which all close it. A wait on its [`Watch`] (`Watch::wait(&child)`), a callback, and [`Exits`](crate::Exits) leave it open. All can be repeated |
/// | `try_wait` | [`try_wait`](Watch::try_wait), or [`exit`](Watch::exit). They report what the watcher has read, a moment after the end |
/// | `wait_with_output` | [`wait_with_output`](Self::wait_with_output) and [`output`](Self::output), which block; with the feature `tokio` also `output_async` |
/// | `kill` | [`kill`](Self::kill), which succeeds if the child has ended. tokio's also waits; call `kill` and then wait |
/// | `start_kill` (tokio) | [`kill`](Self::kill) |
/// | `kill_on_drop` (tokio) | [`kill_on_drop`](Self::kill_on_drop), set on the child instead of the command. As with tokio, the child is reaped later |
/// | `id` | [`id`](Self::id) and [`pid`](Watch::pid). They are kept after the end, where tokio's is `None` |
/// | `pidfd`, `into_pidfd`, `raw_handle` | none, because the watcher reaps the child. Open a pidfd with `pidfd_open(2)` |
/// | `ExitStatus` | [`Exit::status`], which is `None` if the status is unknown |
/// | drop | the child is reaped; the standard library leaves a zombie |
pub struct Child {
    // Dropped first, so that `kill_on_drop` kills the child before its pipes are closed.
    owned: Owned,
    /// The writing end of the pipe to standard input; empty if that was not piped.
    pub stdin: Pipe<ChildStdin>,
    /// The reading end of the pipe to standard output; empty if that was not piped.
    pub stdout: Pipe<ChildStdout>,
    /// The reading end of the pipe to standard error; empty if that was not piped.
    pub stderr: Pipe<ChildStderr>,
}

/// The part with a `Drop` implementation. A type that implements `Drop` itself would not allow the
/// pipes to be moved out of a [`Child`].
struct Owned {
    watch: Watch,
    kill_on_drop: bool,
}

impl Child {
    pub(crate) fn new(watch: Watch) -> Self {
        Self {
            owned: Owned {
                watch,
                kill_on_drop: false,
            },
            stdin: Pipe::new(None),
            stdout: Pipe::new(None),
            stderr: Pipe::new(None),
        }
    }

    pub(crate) fn with_pipes(mut self, pipes: Pipes) -> Self {
        self.stdin = Pipe::new(pipes.stdin);
        self.stdout = Pipe::new(pipes.stdout);
        self.stderr = Pipe::new(pipes.stderr);
        self
    }

    /// The pid as a number of the standard library. After the exit was received, another process
    /// may have the same pid.
    pub fn id(&self) -> u32 {
        self.pid().as_raw().unsigned_abs()
    }

    /// Closes standard input and blocks until the child has ended. The call may return before the
    /// callbacks have run.
    ///
    /// Standard input is closed if it was piped and not taken, because a child that reads it to the
    /// end would never end. Several threads can wait, and a thread can wait more than once.
    ///
    /// # Errors
    ///
    /// [`WaitError::Closed`] if the watcher ends first. [`WaitError::WouldDeadlock`] on the ring
    /// thread of any watcher (in a waker, or in a callback with `workers(0)`), and in a callback
    /// for which the ring thread of this watcher waits.
    pub fn wait(&self) -> Result<Exit, WaitError> {
        self.close_stdin();
        self.owned.watch.wait()
    }

    /// Closes standard input as [`wait`](Self::wait) does, and blocks until the child has ended,
    /// for at most `timeout`. Returns `None` if it has not ended by then.
    ///
    /// # Errors
    ///
    /// Those of [`wait`](Self::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<Option<Exit>, WaitError> {
        self.close_stdin();
        self.owned.watch.wait_timeout(timeout)
    }

    /// Returns a future of the exit that borrows the child. It works with any executor; dropping it
    /// is cheap. Its first poll closes standard input, as [`wait`](Self::wait) does.
    ///
    /// `(&child).await` is the same. `child.await` takes the child.
    pub fn exited(&self) -> Exited<'_> {
        Exited::of_child(self)
    }

    /// Closes standard input, reads standard output and standard error to their ends, and blocks
    /// until the child has ended.
    ///
    /// Only streams that were piped and not taken are closed or read. As in the standard library, a
    /// pipe ends when every process that inherited it has closed it. If the child leaves another
    /// process running with the same output, the call waits for that process too.
    ///
    /// # Errors
    ///
    /// [`OutputError::Wait`] with the errors of [`wait`](Self::wait), and with [`Closed::Dropped`] in
    /// a callback of a watcher that is being dropped, which would wait for the callback.
    /// [`OutputError::Read`] if a pipe cannot be read. Both drop the child handle.
    pub fn wait_with_output(self) -> Result<Output, OutputError> {
        self.output(usize::MAX)
    }

    /// Works like [`wait_with_output`](Self::wait_with_output), and keeps at most the first `limit`
    /// bytes of each stream. The rest is read and discarded ([`Output::discarded`]), so the child
    /// does not block.
    ///
    /// # Errors
    ///
    /// Those of [`wait_with_output`](Self::wait_with_output).
    pub fn output(self, limit: usize) -> Result<Output, OutputError> {
        let watch = &self.owned.watch;
        watch.check_process().map_err(WaitError::from)?;
        // Keeps the edge in the wait graph until the output is complete.
        let mut _waiting = None;
        if self.exit().is_none() {
            watch.check_may_wait()?;
            // The child may end only by its deadline, which the ring thread enforces.
            let waiting = wait_graph::wait_for(watch.ring_thread());
            _waiting = Some(waiting.ok_or(WaitError::WouldDeadlock)?);
        }
        self.close_stdin();
        // Without this check, the drop of the watcher could wait for this thread, which would wait
        // for an exit that is never delivered, or for other processes that have the pipes.
        let check = || match watch.try_wait() {
            Ok(_) if wait_graph::is_thread_stopping() => {
                Err(OutputError::Wait(Closed::Dropped.into()))
            }
            Ok(_) => Ok(()),
            Err(closed) => Err(OutputError::Wait(closed.into())),
        };
        let (stdout, stderr) = (self.stdout.take(), self.stderr.take());
        let (out, err) = output::read_both(stdout, stderr, limit, check)?;
        Ok(Output {
            exit: self.owned.watch.wait()?,
            discarded: out.discarded + err.discarded,
            stdout: out.bytes,
            stderr: err.bytes,
        })
    }

    /// Closes standard input before a wait. Does nothing in a forked child, where the lock of the
    /// pipe may stay locked forever.
    pub(crate) fn close_stdin(&self) {
        if self.owned.watch.check_process().is_ok() {
            drop(self.stdin.take());
        }
    }

    /// Sends a signal to the child, by number (`libc::SIGTERM`). Does not block.
    ///
    /// The signal cannot reach another process: the watcher reaps the child, and so frees its pid,
    /// under the lock that this call holds. If other code reaps the child against the rules, the
    /// call notices that by a status query right before the signal.
    ///
    /// # Errors
    ///
    /// [`SignalError::Exited`] after the exit was received. [`SignalError`] lists the others.
    pub fn signal(&self, signal: i32) -> Result<(), SignalError> {
        self.owned.watch.signal(signal, false)
    }

    /// Sends `SIGKILL` to the child, and does not wait for its end.
    ///
    /// The call succeeds if the child has ended already, as in the standard library.
    ///
    /// # Errors
    ///
    /// Those of [`signal`](Self::signal), except [`SignalError::Exited`].
    pub fn kill(&self) -> Result<(), SignalError> {
        match self.signal(libc::SIGKILL) {
            Err(SignalError::Exited) => Ok(()),
            sent => sent,
        }
    }

    /// Kills all processes in the [cgroup](crate::Command::cgroup) of the child with `SIGKILL`: the
    /// child, if it has not ended, and all that it started, whatever session, process group, or
    /// user. Does not wait for their end.
    ///
    /// Before Linux 5.14 (`cgroup.kill`) the group is frozen, and its processes are signalled one by
    /// one.
    ///
    /// # Errors
    ///
    /// [`SignalError::NoCgroup`] if the child was not started in a cgroup, [`SignalError::Cgroup`]
    /// if the group cannot be killed.
    pub fn kill_tree(&self) -> Result<(), SignalError> {
        self.owned.watch.check_process()?;
        self.owned.watch.record().kill_tree()
    }

    /// Kills the child, and all that is known to belong to it: its cgroup, or the process group that
    /// it leads. Ignores a child that has ended.
    pub(crate) fn kill_all(&self) {
        let _ = self.kill_tree();
        // Also a child that has moved to another cgroup.
        if self.signal_group(libc::SIGKILL).is_err() {
            let _ = self.kill();
        }
    }

    /// Sends a signal to the process group that the child leads. To make the child a group leader,
    /// spawn it with [`Command::process_group(0)`](crate::Command::process_group).
    ///
    /// # Errors
    ///
    /// [`SignalError::NoGroup`] if the child leads no group, otherwise those of
    /// [`signal`](Self::signal).
    pub fn signal_group(&self, signal: i32) -> Result<(), SignalError> {
        self.owned.watch.signal(signal, true)
    }

    /// Sets a deadline: if the child has not ended after `after`, the ring thread sends `SIGTERM`,
    /// and `SIGKILL` after the further time `grace`.
    ///
    /// Both signals go to the process group if the child leads one, otherwise to the child alone.
    /// `SIGKILL` also goes to all processes of the child's [cgroup](crate::Command::cgroup).
    /// `SIGCONT` follows `SIGTERM`, so that a stopped process handles it. A second deadline
    /// replaces the first. A time of zero expires at once, and [`Duration::MAX`] never does. With a
    /// grace of [`Duration::MAX`] only `SIGTERM` is sent, also at the end of the watcher.
    ///
    /// If the leader ends after `SIGTERM`, the processes left in its group have the rest of the
    /// grace ([`group_in_grace`](Self::group_in_grace)). A deadline that is set after the end of
    /// the child applies to these processes while they have grace, and has no effect otherwise.
    ///
    /// Before Linux 6.9, and beyond 256 such groups at a time (or an eighth of `RLIMIT_NOFILE`), a
    /// group is identified by its number instead of a descriptor. If another group got the number,
    /// the watcher notices that by the process with the same number, unless that process also ended
    /// within the last 100 ms.
    ///
    /// [`Exit::by_deadline`](crate::Exit::by_deadline) and
    /// [`deadline_error`](Self::deadline_error) report what the deadline did. The call does not
    /// block. Any number of deadlines use one timer together. The drop of the watcher cancels
    /// deadlines that have not expired, and ends the grace of all groups that has an end.
    ///
    /// # Errors
    ///
    /// [`Closed`] if the watcher ended, so that no thread would enforce the deadline.
    pub fn deadline(&self, after: Duration, grace: Duration) -> Result<(), Closed> {
        self.owned.watch.set_deadline(after, grace)
    }

    /// The error of the last signal of a deadline, if it could not be sent.
    ///
    /// [`SignalError::Denied`] if the process, or a process left in its group, runs as another user
    /// by now. `None` again when the group has no processes left.
    pub fn deadline_error(&self) -> Option<SignalError> {
        self.owned.watch.check_process().ok()?;
        self.owned.watch.record().deadline_error()
    }

    /// Whether a deadline has sent `SIGTERM` to the process group of the child, the group still has
    /// processes, and its grace has not expired.
    ///
    /// The child itself may have ended. The end of the last process is noticed within 100 ms.
    pub fn group_in_grace(&self) -> bool {
        self.owned.watch.check_process().is_ok() && self.owned.watch.record().group_in_grace()
    }

    /// The signal that stopped the child; `None` if the child is not stopped.
    ///
    /// The signal is `SIGSTOP`, `SIGTSTP`, or, for a child that accesses the terminal from the
    /// background, `SIGTTIN` or `SIGTTOU`. Makes one system call, under the lock under which the
    /// child is reaped.
    pub fn stopped(&self) -> Option<i32> {
        self.owned.watch.check_process().ok()?;
        self.owned.watch.record().stopped()
    }

    /// Sets whether the drop of this handle sends `SIGKILL` to the child, or to all processes of its
    /// [cgroup](crate::Command::cgroup). The default is `false`. The child is reaped in any case.
    pub fn kill_on_drop(&mut self, kill: bool) {
        self.owned.kill_on_drop = kill;
    }
}

/// The parent's ends of the pipes to a child.
pub(crate) struct Pipes {
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) stdout: Option<ChildStdout>,
    pub(crate) stderr: Option<ChildStderr>,
}

impl Pipes {
    /// Moves the pipes out of a child that the standard library started.
    pub(crate) fn of(std: &mut std::process::Child) -> Self {
        Self {
            stdin: std.stdin.take(),
            stdout: std.stdout.take(),
            stderr: std.stderr.take(),
        }
    }
}

impl Deref for Child {
    type Target = Watch;

    fn deref(&self) -> &Watch {
        &self.owned.watch
    }
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child")
            .field("watch", &self.owned.watch)
            .field("kill_on_drop", &self.owned.kill_on_drop)
            .finish_non_exhaustive()
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if self.kill_on_drop {
            // Fails if the child has ended.
            if self.watch.check_process().is_ok() && self.watch.record().kill_tree().is_err() {
                let _ = self.watch.signal(libc::SIGKILL, false);
            }
        }
    }
}
