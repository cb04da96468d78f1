//! A child that the watcher owns: starts, reaps, signals.

use std::fmt;
use std::ops::Deref;
use std::process::{ChildStderr, ChildStdin, ChildStdout};
use std::time::Duration;

use crate::api::output;
use crate::error::{Closed, OutputError, SignalError, WaitError};
use crate::sync::wait_graph;
use crate::{Exit, Exited, Output, Pipe, Watch};

/// A child process that the watcher owns: nobody else is to reap it, and the watcher always does.
///
/// Made by [`Watcher::spawn`](crate::Watcher::spawn) and [`Watcher::adopt`](crate::Watcher::adopt).
/// Everything of [`Watch`] can be called on it. Dropping it lets the child run on, to be reaped when it ends,
/// also when the watcher is gone by then; [`kill_on_drop`](Self::kill_on_drop) chooses otherwise.
///
/// A `waitpid(-1)` elsewhere in the program takes statuses from it
/// ([`Unknown::ReapedElsewhere`](crate::Unknown)); nothing hangs.
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
/// # For users of the standard library's and tokio's `Child`
///
/// All methods take a shared reference, so a child can be shared by threads, one of which waits while another kills it.
///
/// | theirs | here |
/// |---|---|
/// | `stdin`, `stdout`, `stderr` | the same: `child.stdout.take()`, `child.stdin.as_mut()` ([`Pipe`]) |
/// | `wait` (closes standard input) | [`wait`](Self::wait), [`wait_timeout`](Self::wait_timeout), `child.await`, [`exited`](Self::exited), all of which close it. A wait on its [`Watch`] (`Watch::wait(&child)`), a callback, and [`Exits`](crate::Exits) leave it open. May be repeated |
/// | `try_wait` | [`try_wait`](Watch::try_wait), also [`exit`](Watch::exit). Says what the ring thread has seen, which is a moment after the end |
/// | `wait_with_output` | [`wait_with_output`](Self::wait_with_output). It blocks; there is no future of it |
/// | `kill` | [`kill`](Self::kill): no error if it has ended. tokio's also waits, which is `kill` and then a wait here |
/// | `start_kill` (tokio) | [`kill`](Self::kill) |
/// | `kill_on_drop` (tokio) | [`kill_on_drop`](Self::kill_on_drop), of the child, not the command; tokio, too, reaps it later |
/// | `id` | [`id`](Self::id), and [`pid`](Watch::pid). It stays after the end, where tokio's is `None` |
/// | `pidfd`, `into_pidfd`, `raw_handle` | none: the watcher reaps the child. Open one with `pidfd_open(2)` |
/// | `ExitStatus` | [`Exit::status`], which is `None` where the status cannot be told |
/// | dropped | it is reaped, where the standard library leaves a zombie |
pub struct Child {
    // Dropped first: a child to be killed is killed before its pipes are closed.
    owned: Owned,
    /// The writing end of its standard input, if that was piped.
    pub stdin: Pipe<ChildStdin>,
    /// The reading end of its standard output, if that was piped.
    pub stdout: Pipe<ChildStdout>,
    /// The reading end of its standard error, if that was piped.
    pub stderr: Pipe<ChildStderr>,
}

/// A type of its own, so that the pipes can be moved out of a [`Child`].
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

    /// Takes the pipes of a child that the standard library has started.
    pub(crate) fn with_pipes_of(mut self, std: &mut std::process::Child) -> Self {
        self.stdin = Pipe::new(std.stdin.take());
        self.stdout = Pipe::new(std.stdout.take());
        self.stderr = Pipe::new(std.stderr.take());
        self
    }

    /// Its process id, as the standard library has it. After the exit was seen the number may be another's.
    pub fn id(&self) -> u32 {
        self.pid().as_raw().unsigned_abs()
    }

    /// Waits for the exit, which may be known before the callbacks have run. May be called by several threads, and again.
    ///
    /// Closes standard input first, if that was piped and not taken: a child that reads to the end of it would never end.
    ///
    /// # Errors
    ///
    /// [`WaitError::Closed`] if the watcher ends first, [`WaitError::WouldDeadlock`] on the ring thread
    /// of any watcher (in a waker, or with `workers(0)` in a callback), and in a callback that the watcher's ring thread waits for.
    pub fn wait(&self) -> Result<Exit, WaitError> {
        self.close_stdin();
        self.owned.watch.wait()
    }

    /// Waits for the exit, for at most this long; `None` if it did not come. Closes standard input, as [`wait`](Self::wait) does.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<Option<Exit>, WaitError> {
        self.close_stdin();
        self.owned.watch.wait_timeout(timeout)
    }

    /// A future of the exit, for any executor. Dropping it costs nothing; there may be many. It closes standard input when it is
    /// first polled, as [`wait`](Self::wait) does.
    ///
    /// `(&child).await` is the same, and `child.await` is one that keeps the child.
    pub fn exited(&self) -> Exited<'_> {
        Exited::of_child(self)
    }

    /// Closes standard input, reads standard output and error to their ends, as far as they were piped and not taken, and waits for
    /// the exit. As in the standard library, a pipe ends when everybody has closed it that inherited it: of a child that
    /// leaves another one running with its output, this waits for that one, too.
    ///
    /// # Errors
    ///
    /// [`OutputError::Wait`] as [`wait`](Self::wait), [`OutputError::Read`] if a pipe cannot be read. The child is dropped then.
    pub fn wait_with_output(self) -> Result<Output, OutputError> {
        let watch = &self.owned.watch;
        let mut _waiting = None;
        if self.exit().is_none() {
            watch.check_may_wait()?;
            // What ends the child may be a deadline, which the ring thread keeps.
            let waiting = wait_graph::wait_for(watch.ring_thread());
            _waiting = Some(waiting.ok_or(WaitError::WouldDeadlock)?);
        }
        self.close_stdin();
        // When the watcher has ended the exit never comes, and the watcher's drop may wait for this thread.
        let go_on = || match watch.try_wait() {
            Ok(_) => Ok(()),
            Err(closed) => Err(OutputError::Wait(closed.into())),
        };
        let (stdout, stderr) = output::read_both(self.stdout.take(), self.stderr.take(), go_on)?;
        Ok(Output {
            exit: self.owned.watch.wait()?,
            stdout,
            stderr,
        })
    }

    /// What a wait does before. Not in a forked child, where the lock may be locked for ever.
    pub(crate) fn close_stdin(&self) {
        if self.owned.watch.check_process().is_ok() {
            drop(self.stdin.take());
        }
    }

    /// Sends it a signal, by number (`libc::SIGTERM`). It cannot reach another process: that the watcher
    /// reaps it, and so sets its pid free, is under the same lock. (If something else reaps it, against the rules,
    /// that is looked for right before.) Does not block.
    ///
    /// # Errors
    ///
    /// [`SignalError::Exited`] after its exit was seen; [`SignalError`] has the rest.
    pub fn signal(&self, signal: i32) -> Result<(), SignalError> {
        self.owned.watch.signal(signal, false)
    }

    /// Sends `SIGKILL`. That it has ended is no error, as in the standard library: it is what was wanted. Does not wait for the end.
    ///
    /// # Errors
    ///
    /// As [`signal`](Self::signal), but for [`SignalError::Exited`].
    pub fn kill(&self) -> Result<(), SignalError> {
        match self.signal(libc::SIGKILL) {
            Err(SignalError::Exited) => Ok(()),
            sent => sent,
        }
    }

    /// Sends a signal to the process group that it leads: give it one with
    /// [`CommandExt::process_group(0)`](std::os::unix::process::CommandExt::process_group).
    ///
    /// # Errors
    ///
    /// [`SignalError::NoGroup`] if it leads none, else as [`signal`](Self::signal).
    pub fn signal_group(&self, signal: i32) -> Result<(), SignalError> {
        self.owned.watch.signal(signal, true)
    }

    /// Ends it if it has not ended after this time: `SIGTERM`, and after `grace`, `SIGKILL`. Both go to the
    /// process group if it leads one, else to it alone. `SIGCONT` follows the `SIGTERM`, so that a stopped process handles it.
    /// Processes left in the group when the leader has ended of the first have the rest of the grace
    /// ([`group_in_grace`](Self::group_in_grace)). Before Linux 6.9, and beyond 256 such groups at a time or an eighth of
    /// `RLIMIT_NOFILE`, the group is known by its number, not by a descriptor: that the number is another group's is then noticed
    /// by the process that has it, unless that process ended within the last 100 ms, too.
    ///
    /// A second deadline replaces the first; zero is now, [`Duration::MAX`] is never. If the child has ended, a deadline holds for
    /// the processes left in its group during their grace, and else does nothing.
    /// [`Exit::by_deadline`](crate::Exit::by_deadline) and [`deadline_error`](Self::deadline_error) report.
    /// Does not block; any number of deadlines cost one
    /// timer in all. When the watcher is dropped, deadlines that have not come lapse, and graces are over.
    ///
    /// # Errors
    ///
    /// [`Closed`] if nobody is left who would keep it.
    pub fn deadline(&self, after: Duration, grace: Duration) -> Result<(), Closed> {
        self.owned.watch.set_deadline(after, grace)
    }

    /// Why the last signal of a deadline could not be sent, if it could not: [`SignalError::Denied`] if the process, or what is
    /// left of its group, runs as another user by now. `None` again when nobody is left of the group.
    pub fn deadline_error(&self) -> Option<SignalError> {
        self.owned.watch.record().deadline_error()
    }

    /// Whether a deadline has sent the child's process group `SIGTERM`, and the group has processes still and its grace is not
    /// over. The child itself may have ended. That the last process has ended is seen within 100 ms.
    pub fn group_in_grace(&self) -> bool {
        self.owned.watch.record().group_in_grace()
    }

    /// The signal that has stopped the child, if it is stopped: `SIGSTOP`, `SIGTSTP`, or, if it wants the terminal and is not in
    /// the foreground, `SIGTTIN` or `SIGTTOU`. One system call, under the lock under which it is reaped.
    pub fn stopped(&self) -> Option<i32> {
        self.owned.watch.record().stopped()
    }

    /// Whether dropping this kills the child (`SIGKILL`; it is reaped in any case). Not by default.
    pub fn kill_on_drop(&mut self, kill: bool) {
        self.owned.kill_on_drop = kill;
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
            // It has ended: all the better.
            let _ = self.watch.signal(libc::SIGKILL, false);
        }
    }
}
