//! The terminal for a job that wants it (`--stopped foreground`), as a shell gives it to what runs in its foreground: the job's
//! process group is the one that may read, and that Ctrl-C and Ctrl-Z reach.

use std::mem;
use std::os::fd::OwnedFd;
use std::time::Duration;

use exitring::{Exit, Outcome, SignalError};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, getpgrp, test_kill_process_group};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr, tcsetpgrp};

use crate::dispositions;
use crate::run::supervisor::Conductor;
use crate::run::supervisor::job_checks::wants_terminal;
use crate::signal_name::name_or_number;

/// The terminal that controls us.
pub(crate) struct Foreground {
    tty: OwnedFd,
    loan: Option<Loan>,
}

/// The terminal is a job's, or was when the job was stopped.
struct Loan {
    job: u64,
    group: Pid,
    has_it: bool,
    /// The terminal's modes before the job had it.
    ours: Termios,
    /// Those that it had when the job was stopped.
    theirs: Option<Termios>,
}

impl Foreground {
    pub(crate) fn open() -> Result<Self, Errno> {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let tty = rustix::fs::open("/dev/tty", flags, Mode::empty())?;
        Ok(Self { tty, loan: None })
    }

    fn loan_to(&self, job: u64) -> Option<&Loan> {
        self.loan.as_ref().filter(|loan| loan.job == job)
    }

    /// Whether a job has the terminal.
    fn is_lent(&self, job: u64) -> bool {
        self.loan_to(job).is_some_and(|loan| loan.has_it)
    }

    /// Whether there is no terminal any more.
    fn has_hung_up(&self) -> bool {
        tcgetpgrp(&self.tty).is_err()
    }

    /// Whether it is ours to lend: not while we are in the background ourselves.
    fn can_lend(&self, group: Pid) -> Result<bool, Errno> {
        let foreground = tcgetpgrp(&self.tty)?;
        Ok(foreground == getpgrp() || foreground == group)
    }

    fn lend(&mut self, job: u64, group: Pid) -> Result<(), Errno> {
        let loan = match self.loan.take() {
            Some(loan) if loan.job == job => self.loan.insert(loan),
            _ => self.loan.insert(Loan {
                job,
                group,
                has_it: false,
                ours: tcgetattr(&self.tty)?,
                theirs: None,
            }),
        };
        // From now on we are in the background: neither what we write (`stty tostop`) nor taking it back is to stop us.
        dispositions::block(libc::SIGTTOU, true);
        loan.has_it = true;
        if let Some(theirs) = loan.theirs.take() {
            tcsetattr(&self.tty, OptionalActions::Drain, &theirs)?;
        }
        tcsetpgrp(&self.tty, group)
    }

    /// Takes it back, if a job has it, with the modes that it had. A shell may have taken it from both of us.
    fn take_back(&mut self) {
        let Some(loan) = self.loan.as_mut().filter(|loan| loan.has_it) else {
            return;
        };
        let lent = tcgetpgrp(&self.tty).is_ok_and(|foreground| {
            // A shell that was the job may have given it to a group of its own.
            foreground == loan.group || test_kill_process_group(foreground) == Err(Errno::SRCH)
        });
        if lent {
            loan.theirs = tcgetattr(&self.tty).ok();
            // If it has hung up, there is nothing to take back.
            let _ = tcsetpgrp(&self.tty, getpgrp());
            let _ = tcsetattr(&self.tty, OptionalActions::Drain, &loan.ours);
        }
        loan.has_it = false;
        dispositions::block(libc::SIGTTOU, false);
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        self.take_back();
    }
}

impl Conductor {
    /// Gives the terminal to a job that is stopped for want of it, and takes it from one that is stopped otherwise.
    pub(in crate::run) fn look_for_terminal(&mut self) {
        let Some(foreground) = &self.foreground else {
            return;
        };
        let lent = foreground.loan.as_ref().filter(|loan| loan.has_it);
        if let Some(&Loan { job, .. }) = lent
            && foreground.has_hung_up()
        {
            self.end_loan(job);
            // The kernel reports it to the job's group, not to ours.
            return self.asked_to_end(libc::SIGHUP, false);
        }
        let stopped = self.running.iter().find_map(|(&number, running)| {
            let asks = running.exit.is_none() && !running.seen.no_terminal;
            Some((number, asks.then(|| running.child.stopped())??))
        });
        let Some((number, signal)) = stopped else {
            return;
        };
        let had_it = foreground.loan_to(number).is_some();
        match (foreground.is_lent(number), wants_terminal(signal)) {
            // It is to end, and not to begin to ask.
            (false, true) if !had_it && self.ending.has_told() => {}
            (_, true) => self.lend_terminal(number, signal),
            (true, false) => {
                self.take_terminal_back();
                if signal == libc::SIGTSTP {
                    self.stop_with_job();
                }
            }
            (false, false) if had_it && signal == libc::SIGTSTP => {
                self.lend_terminal(number, signal);
            }
            (false, false) => {}
        }
    }

    fn lend_terminal(&mut self, number: u64, signal: i32) {
        let why = match self.try_to_lend_terminal(number) {
            Ok(()) => {
                if let Some(running) = self.running.get_mut(&number) {
                    running.seen.reported = false;
                }
                return;
            }
            Err(Refused::InBackground) => {
                "it gets the terminal when exitring is in the foreground (fg)".into()
            }
            Err(Refused::For(why)) => {
                self.end_loan(number);
                if let Some(running) = self.running.get_mut(&number) {
                    running.seen.no_terminal = true;
                }
                format!("the terminal cannot be given to it: {why}")
            }
        };
        let running = self.running.get_mut(&number);
        if running.is_some_and(|running| !mem::replace(&mut running.seen.reported, true)) {
            let name = name_or_number(signal);
            self.say(&format!("job {number} is stopped ({name}): {why}\n"));
        }
    }

    fn try_to_lend_terminal(&mut self, number: u64) -> Result<(), Refused> {
        let (Some(foreground), Some(running)) = (&mut self.foreground, self.running.get(&number))
        else {
            return Ok(());
        };
        let Some(group) = Pid::from_raw(running.child.pid().as_raw()) else {
            return Ok(());
        };
        if !foreground.can_lend(group)? {
            return Err(Refused::InBackground);
        }
        if !foreground.is_lent(number) {
            // Its prompt may be gone with the bar.
            let command = running.job.order.text();
            let text = format!("job {number} gets the terminal: {command}\n");
            self.say(&text);
            self.flush();
            self.progress.clear();
        }
        if let Some(foreground) = &mut self.foreground {
            foreground.lend(number, group)?;
        }
        match self
            .running
            .get(&number)
            .map(|running| running.child.signal_group(libc::SIGCONT))
        {
            // That it has ended meanwhile shows elsewhere.
            None | Some(Ok(()) | Err(SignalError::Exited)) => Ok(()),
            Some(Err(error)) => Err(Refused::For(error.to_string())),
        }
    }

    /// Ctrl-Z has stopped the job that had the terminal, and is meant for all that a shell has in its foreground.
    fn stop_with_job(&mut self) {
        if !self.signals.is_deaf(libc::SIGTSTP) {
            self.flush();
            self.progress.clear();
            // Without it we go on, and so does the job.
            let _ = dispositions::obey_with_group(Signal::TSTP);
        }
        self.looks.look_within(Duration::ZERO);
    }

    /// We are to be stopped: so is the job that has the terminal, for in the background it would go on with a read that it has begun.
    pub(in crate::run) fn stop_lent_job(&mut self) {
        let has_it = |number: &u64| {
            self.foreground
                .as_ref()
                .is_some_and(|tty| tty.is_lent(*number))
        };
        for (_, running) in self.running.iter().filter(|(number, _)| has_it(number)) {
            // If it has ended there is nothing to stop.
            let _ = running.child.signal_group(libc::SIGTSTP);
        }
        self.take_terminal_back();
    }

    pub(in crate::run) fn take_terminal_back(&mut self) {
        if let Some(foreground) = &mut self.foreground {
            foreground.take_back();
        }
    }

    /// A job has ended, or is left: the terminal is ours. If a key has ended the job, it was meant for all.
    pub(in crate::run) fn end_loan(&mut self, number: u64) {
        let Some(foreground) = &mut self.foreground else {
            return;
        };
        if foreground.loan_to(number).is_none() {
            return;
        }
        let had_it = foreground.is_lent(number);
        let hung_up = foreground.has_hung_up();
        foreground.take_back();
        foreground.loan = None;
        let exit = self.running.get(&number).and_then(|job| job.exit.as_ref());
        let Some(exit) = exit.filter(|_| had_it && !self.ending.is_interrupted()) else {
            return;
        };
        let (signal, why) = match terminal_signal(exit) {
            Some(signal) => (signal, format!("ended of {}", name_or_number(signal))),
            None if hung_up => (libc::SIGHUP, "ended when that had hung up".into()),
            None => return,
        };
        if let Some(stop) = self.ending.request(signal == libc::SIGQUIT) {
            self.say(&format!(
                "interrupted: job {number}, which had the terminal, {why}\n"
            ));
            self.stop(stop, None);
            while let Some(held) = self.held.next(true) {
                self.judge(held);
            }
        }
    }
}

/// Why a job does not get the terminal.
enum Refused {
    /// We do not have it ourselves.
    InBackground,
    For(String),
}

impl From<Errno> for Refused {
    fn from(error: Errno) -> Self {
        Self::For(error.to_string())
    }
}

/// The signal of a terminal to its foreground that has ended a job. What exits with a code has handled it, as an interactive shell
/// does, whose code is 130 if Ctrl-C has ended the last command.
fn terminal_signal(exit: &Exit) -> Option<i32> {
    match exit.outcome() {
        Outcome::Signaled {
            signal: signal @ (libc::SIGINT | libc::SIGQUIT | libc::SIGHUP),
            ..
        } => Some(signal),
        _ => None,
    }
}
