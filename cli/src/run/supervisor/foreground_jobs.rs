//! The supervisor's grants of the terminal to jobs.

use std::mem;
use std::time::Duration;

use exitring::{Exit, Outcome, SignalError};
use rustix::io::Errno;
use rustix::process::{Pid, Signal};

use super::Supervisor;
use super::foreground::Grant;
use crate::dispositions;
use crate::run::stopped::needs_terminal;
use crate::signal_name::name_or_number;

impl Supervisor {
    /// Grants the terminal to a job that is stopped for lack of it, and takes it back from a job
    /// that is stopped for another reason.
    pub(super) fn check_terminal(&mut self) {
        let Some(foreground) = &self.foreground else {
            return;
        };
        let granted = foreground.grant.as_ref().filter(|grant| grant.active);
        if let Some(&Grant { job, .. }) = granted
            && foreground.has_hung_up()
        {
            self.end_grant(job);
            // The kernel sends SIGHUP to the job's group, and not to the group of this process.
            return self.request_shutdown(libc::SIGHUP, false);
        }
        let stopped = self.running.iter().find_map(|(&number, running)| {
            let asks = running.exit.is_none() && !running.check.terminal_refused;
            Some((number, asks.then(|| running.child.stopped())??))
        });
        let Some((number, signal)) = stopped else {
            return;
        };
        let had_terminal = foreground.grant_of(number).is_some();
        match (foreground.is_granted(number), needs_terminal(signal)) {
            // The job is to end, and must not start to read from the terminal.
            (false, true) if !had_terminal && self.shutdown.has_signalled_jobs() => {}
            (_, true) => self.grant_terminal(number, signal),
            (true, false) => {
                self.reclaim_terminal();
                if signal == libc::SIGTSTP {
                    self.stop_with_job();
                }
            }
            (false, false) if had_terminal && signal == libc::SIGTSTP => {
                self.grant_terminal(number, signal);
            }
            (false, false) => {}
        }
    }

    fn grant_terminal(&mut self, number: u64, signal: i32) {
        let why = match self.try_grant_terminal(number) {
            Ok(()) => {
                if let Some(running) = self.running.get_mut(&number) {
                    running.check.reported = false;
                }
                return;
            }
            Err(GrantError::InBackground) => {
                "it gets the terminal once exitring is in the foreground (fg)".into()
            }
            Err(GrantError::Failed(why)) => {
                self.end_grant(number);
                if let Some(running) = self.running.get_mut(&number) {
                    running.check.terminal_refused = true;
                }
                format!("the terminal cannot be given to it: {why}")
            }
        };
        let running = self.running.get_mut(&number);
        if running.is_some_and(|running| !mem::replace(&mut running.check.reported, true)) {
            let name = name_or_number(signal);
            self.report(&format!("job {number} is stopped ({name}): {why}\n"));
        }
    }

    fn try_grant_terminal(&mut self, number: u64) -> Result<(), GrantError> {
        let (Some(foreground), Some(running)) = (&mut self.foreground, self.running.get(&number))
        else {
            return Ok(());
        };
        let Some(group) = Pid::from_raw(running.child.pid().as_raw()) else {
            return Ok(());
        };
        if !foreground.can_grant(group)? {
            return Err(GrantError::InBackground);
        }
        if !foreground.is_granted(number) {
            // The bar may have overwritten the job's prompt.
            let command = running.job.command_text();
            let text = format!("job {number} gets the terminal: {command}\n");
            self.report(&text);
            self.flush();
            self.progress.clear();
        }
        if let Some(foreground) = &mut self.foreground {
            foreground.grant(number, group)?;
        }
        match self
            .running
            .get(&number)
            .map(|running| running.child.signal_group(libc::SIGCONT))
        {
            // If the job has ended, its exit is reported elsewhere.
            None | Some(Ok(()) | Err(SignalError::Exited)) => Ok(()),
            Some(Err(error)) => Err(GrantError::Failed(error.to_string())),
        }
    }

    /// Stops this process along with the job that had the terminal: a shell expects Ctrl-Z to stop
    /// its whole foreground job.
    fn stop_with_job(&mut self) {
        if !self.signals.is_ignored(libc::SIGTSTP) {
            self.flush();
            self.progress.clear();
            // If that fails, this process and the job both continue.
            let _ = dispositions::raise_default_in_group(Signal::TSTP);
        }
        self.job_checks.check_within(Duration::ZERO);
    }

    /// Stops the job that has the terminal, because this process is about to be stopped. In the
    /// background the job would continue a read that has begun.
    pub(super) fn stop_foreground_job(&mut self) {
        let active = |number: &u64| {
            self.foreground
                .as_ref()
                .is_some_and(|tty| tty.is_granted(*number))
        };
        for (_, running) in self.running.iter().filter(|(number, _)| active(number)) {
            // If the job has ended, there is nothing to stop.
            let _ = running.child.signal_group(libc::SIGTSTP);
        }
        self.reclaim_terminal();
    }

    pub(super) fn reclaim_terminal(&mut self) {
        if let Some(foreground) = &mut self.foreground {
            foreground.reclaim();
        }
    }

    /// Takes the terminal back from a job that has ended or is left running. A key that ended the
    /// job also ends the run.
    pub(super) fn end_grant(&mut self, number: u64) {
        let Some(foreground) = &mut self.foreground else {
            return;
        };
        if foreground.grant_of(number).is_none() {
            return;
        }
        let had_terminal = foreground.is_granted(number);
        let hung_up = foreground.has_hung_up();
        foreground.reclaim();
        foreground.grant = None;
        let exit = self.running.get(&number).and_then(|job| job.exit.as_ref());
        let Some(exit) = exit.filter(|_| had_terminal && !self.shutdown.is_interrupted()) else {
            return;
        };
        let (signal, why) = match terminal_signal(exit) {
            Some(signal) => (signal, format!("was ended by {}", name_or_number(signal))),
            None if hung_up => (libc::SIGHUP, "ended after a hangup".into()),
            None => return,
        };
        if let Some(stop) = self.shutdown.request(signal, signal == libc::SIGQUIT) {
            if let Some(observers) = &mut self.observers {
                observers.interrupted(signal);
            }
            self.report(&format!(
                "interrupted: job {number}, which had the terminal, {why}\n"
            ));
            self.stop(stop, None);
            while let Some(pending) = self.pending_ends.pop(true) {
                self.finish_pending(pending);
            }
        }
    }
}

/// Why a job does not get the terminal.
enum GrantError {
    /// This process is in the background itself.
    InBackground,
    Failed(String),
}

impl From<Errno> for GrantError {
    fn from(error: Errno) -> Self {
        Self::Failed(error.to_string())
    }
}

/// The signal of the terminal that ended a job. A job that exits with a code has handled the
/// signal, as an interactive shell does: its code is 130 if Ctrl-C ended its last command.
fn terminal_signal(exit: &Exit) -> Option<i32> {
    match exit.outcome() {
        Outcome::Signaled {
            signal: signal @ (libc::SIGINT | libc::SIGQUIT | libc::SIGHUP),
            ..
        } => Some(signal),
        _ => None,
    }
}
