//! A child that the watcher owns: starts, reaps, signals.

use std::fmt;
use std::ops::Deref;
use std::process::{ChildStderr, ChildStdin, ChildStdout};
use std::time::Duration;

use crate::Watch;
use crate::error::{Closed, SignalError};

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
pub struct Child {
    /// The writing end of its standard input, if that was piped.
    pub stdin: Option<ChildStdin>,
    /// The reading end of its standard output, if that was piped.
    pub stdout: Option<ChildStdout>,
    /// The reading end of its standard error, if that was piped.
    pub stderr: Option<ChildStderr>,
    watch: Watch,
    kill_on_drop: bool,
}

impl Child {
    pub(crate) fn new(watch: Watch) -> Self {
        Self {
            stdin: None,
            stdout: None,
            stderr: None,
            watch,
            kill_on_drop: false,
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
        self.watch.signal(signal, false)
    }

    /// Sends `SIGKILL`.
    ///
    /// # Errors
    ///
    /// As [`signal`](Self::signal).
    pub fn kill(&self) -> Result<(), SignalError> {
        self.signal(libc::SIGKILL)
    }

    /// Sends a signal to the process group that it leads: give it one with
    /// [`CommandExt::process_group(0)`](std::os::unix::process::CommandExt::process_group).
    ///
    /// # Errors
    ///
    /// [`SignalError::NoGroup`] if it leads none, else as [`signal`](Self::signal).
    pub fn signal_group(&self, signal: i32) -> Result<(), SignalError> {
        self.watch.signal(signal, true)
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
        self.watch.set_deadline(after, grace)
    }

    /// Why the last signal of a deadline could not be sent, if it could not: [`SignalError::Denied`] if the process, or what is
    /// left of its group, runs as another user by now. `None` again when nobody is left of the group.
    pub fn deadline_error(&self) -> Option<SignalError> {
        self.watch.record().deadline_error()
    }

    /// Whether a deadline has sent the child's process group `SIGTERM`, and the group has processes still and its grace is not
    /// over. The child itself may have ended. That the last process has ended is seen within 100 ms.
    pub fn group_in_grace(&self) -> bool {
        self.watch.record().group_in_grace()
    }

    /// The signal that has stopped the child, if it is stopped: `SIGSTOP`, `SIGTSTP`, or, if it wants the terminal and is not in
    /// the foreground, `SIGTTIN` or `SIGTTOU`. One system call, under the lock under which it is reaped.
    pub fn stopped(&self) -> Option<i32> {
        self.watch.record().stopped()
    }

    /// Whether dropping this kills the child (`SIGKILL`; it is reaped in any case). Not by default.
    pub fn kill_on_drop(&mut self, kill: bool) {
        self.kill_on_drop = kill;
    }
}

impl Deref for Child {
    type Target = Watch;

    fn deref(&self) -> &Watch {
        &self.watch
    }
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child")
            .field("watch", &self.watch)
            .field("kill_on_drop", &self.kill_on_drop)
            .finish_non_exhaustive()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.kill_on_drop {
            // It has ended: all the better.
            let _ = self.kill();
        }
    }
}
