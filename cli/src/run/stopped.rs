//! Jobs that a signal has stopped.

use clap::ValueEnum;

use crate::signal_name::name_or_number;

/// What is done about a stopped job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Stopped {
    /// Report it once, and wait for it
    Report,
    /// End it: SIGTERM, then SIGKILL after --grace; it counts as failed, and its record gives the
    /// reason
    Fail,
    /// With -j 1: give the terminal to a job that needs it, until the job ends or is stopped;
    /// report others
    Foreground,
}

/// Whether the signal stops a process that uses a terminal from the background.
pub(crate) fn needs_terminal(signal: i32) -> bool {
    matches!(signal, libc::SIGTTIN | libc::SIGTTOU)
}

/// The reason in the record of a job that was ended because it was stopped.
pub(crate) fn stopped_by(signal: i32) -> String {
    let why = match needs_terminal(signal) {
        true => ": it needed the terminal",
        false => "",
    };
    format!("stopped by {}{why}", name_or_number(signal))
}
