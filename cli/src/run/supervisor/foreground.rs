//! The controlling terminal, for a job that needs it (`--stopped foreground`).
//!
//! A shell does the same for its foreground job: the process group of the job may read from the
//! terminal, and receives Ctrl-C and Ctrl-Z.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, getpgrp, test_kill_process_group};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr, tcsetpgrp};

use crate::dispositions;

/// The controlling terminal of this process.
pub(crate) struct Foreground {
    pub(super) tty: OwnedFd,
    pub(super) grant: Option<Grant>,
}

/// The grant of the terminal to a job. It stays while the job is stopped without the terminal.
pub(super) struct Grant {
    pub(super) job: u64,
    pub(super) group: Pid,
    pub(super) active: bool,
    /// The modes of the terminal before the job had it.
    pub(super) own_modes: Termios,
    /// The modes that the job had set when it was stopped.
    pub(super) job_modes: Option<Termios>,
}

impl Foreground {
    pub(crate) fn open() -> Result<Self, Errno> {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let tty = rustix::fs::open("/dev/tty", flags, Mode::empty())?;
        Ok(Self { tty, grant: None })
    }

    pub(super) fn grant_of(&self, job: u64) -> Option<&Grant> {
        self.grant.as_ref().filter(|grant| grant.job == job)
    }

    /// Whether a job has the terminal.
    pub(super) fn is_granted(&self, job: u64) -> bool {
        self.grant_of(job).is_some_and(|grant| grant.active)
    }

    /// Whether the terminal has hung up.
    pub(super) fn has_hung_up(&self) -> bool {
        tcgetpgrp(&self.tty).is_err()
    }

    /// Whether this process may grant the terminal: it may not while it is in the background
    /// itself.
    pub(super) fn can_grant(&self, group: Pid) -> Result<bool, Errno> {
        let foreground = tcgetpgrp(&self.tty)?;
        Ok(foreground == getpgrp() || foreground == group)
    }

    pub(super) fn grant(&mut self, job: u64, group: Pid) -> Result<(), Errno> {
        let grant = match self.grant.take() {
            Some(grant) if grant.job == job => self.grant.insert(grant),
            _ => self.grant.insert(Grant {
                job,
                group,
                active: false,
                own_modes: tcgetattr(&self.tty)?,
                job_modes: None,
            }),
        };
        // From now on this process is in the background. Neither its messages (`stty tostop`) nor
        // `reclaim` may stop it.
        dispositions::block(libc::SIGTTOU, true);
        grant.active = true;
        if let Some(job_modes) = grant.job_modes.take() {
            tcsetattr(&self.tty, OptionalActions::Drain, &job_modes)?;
        }
        tcsetpgrp(&self.tty, group)
    }

    /// Takes the terminal back from a job, with the modes that it had before. A shell may have
    /// taken it from both processes.
    pub(super) fn reclaim(&mut self) {
        let Some(grant) = self.grant.as_mut().filter(|grant| grant.active) else {
            return;
        };
        let granted = tcgetpgrp(&self.tty).is_ok_and(|foreground| {
            // A job that is a shell may have given the terminal to another group.
            foreground == grant.group || test_kill_process_group(foreground) == Err(Errno::SRCH)
        });
        if granted {
            grant.job_modes = tcgetattr(&self.tty).ok();
            // After a hangup there is nothing to take back.
            let _ = tcsetpgrp(&self.tty, getpgrp());
            let _ = tcsetattr(&self.tty, OptionalActions::Drain, &grant.own_modes);
        }
        grant.active = false;
        dispositions::block(libc::SIGTTOU, false);
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        self.reclaim();
    }
}
