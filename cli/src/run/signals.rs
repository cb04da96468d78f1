//! Signals that this process receives, as a descriptor that becomes readable.
//!
//! No signal that can be caught ends the process at once: the jobs would run on, and no record of
//! their ends would be written.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;
use signal_hook::low_level;

use super::fault_signals;
use crate::dispositions;

/// Signals without a handler: they cannot be caught, have no effect, or take effect without a
/// handler. SIGTTIN and SIGTTOU keep a program in the background off the terminal. SIGPIPE appears
/// as an error of the write.
const UNHANDLED: [i32; 9] = [
    libc::SIGKILL,
    libc::SIGSTOP,
    libc::SIGCHLD,
    libc::SIGCONT,
    libc::SIGURG,
    libc::SIGWINCH,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGPIPE,
];

pub(crate) struct Signals {
    delivery: SignalDelivery<UnixStream, SignalOnly>,
    /// Signals that were ignored at the start of this process, and that it ignores too. They have a
    /// handler all the same, so that jobs do not inherit the ignored disposition. A terminal sends
    /// them, and its signals reach no job in a group of its own.
    ignored: Vec<i32>,
}

/// What a signal requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignalAction {
    /// End the run; kill the jobs if `at_once` (SIGQUIT).
    Shutdown { at_once: bool },
    /// Run one more job at a time.
    MoreJobs,
    /// Run one job fewer at a time.
    FewerJobs,
    /// Stop this process: Ctrl-Z at a terminal.
    Stop,
    /// The signal has no meaning here, which is reported.
    Unknown,
    /// The signal has no effect and is not reported.
    Ignore,
}

impl SignalAction {
    fn of(signal: i32) -> Self {
        match signal {
            libc::SIGINT | libc::SIGTERM | libc::SIGHUP => Self::Shutdown { at_once: false },
            // A limit of processor time, a power failure, a watchdog.
            libc::SIGXCPU | libc::SIGPWR | libc::SIGABRT => Self::Shutdown { at_once: false },
            libc::SIGQUIT => Self::Shutdown { at_once: true },
            libc::SIGUSR1 => Self::MoreJobs,
            libc::SIGUSR2 => Self::FewerJobs,
            libc::SIGTSTP => Self::Stop,
            // The write that exceeds the limit also fails with an error.
            libc::SIGXFSZ => Self::Ignore,
            _ => Self::Unknown,
        }
    }
}

impl Signals {
    /// Installs handlers for all signals but SIGKILL and those without an effect. SIGINT, SIGQUIT
    /// and SIGTSTP have no effect where they were ignored (in the background of a script). SIGHUP
    /// keeps being ignored under `nohup`, and jobs ignore it too.
    pub(crate) fn install() -> io::Result<Self> {
        let (receiver, sender) = UnixStream::pair()?;
        receiver.set_nonblocking(true)?;
        let caught = |signal: &i32| {
            let nohup = *signal == libc::SIGHUP && dispositions::is_ignored(*signal);
            !UNHANDLED.contains(signal) && !fault_signals::FAULTS.contains(signal) && !nohup
        };
        let caught: Vec<i32> = dispositions::all().filter(caught).collect();
        let ignored: Vec<i32> = [libc::SIGINT, libc::SIGQUIT, libc::SIGTSTP]
            .into_iter()
            .filter(|signal| dispositions::is_ignored(*signal))
            .collect();
        let requests_end = |signal: &&i32| {
            let shutdown = matches!(SignalAction::of(**signal), SignalAction::Shutdown { .. });
            shutdown && !ignored.contains(*signal)
        };
        let requests: Vec<i32> = caught.iter().filter(requests_end).copied().collect();
        // The first action installs the handler. A signal that arrived before the second one would be
        // lost. No other thread exists yet.
        requests
            .iter()
            .for_each(|signal| dispositions::block(*signal, true));
        for &signal in &requests {
            // SAFETY: the action makes one system call, which is async-signal-safe.
            unsafe { low_level::register(signal, write_in_background)? };
        }
        let delivery = SignalDelivery::with_pipe(receiver, sender, SignalOnly, caught)?;
        requests
            .iter()
            .for_each(|signal| dispositions::block(*signal, false));
        fault_signals::redirect_sent()?;
        Ok(Self { delivery, ignored })
    }

    /// The signals that arrived since the last call. A signal that arrived several times is listed
    /// once.
    pub(crate) fn take_pending(&mut self) -> Vec<(i32, SignalAction)> {
        let Self { delivery, ignored } = self;
        let delivered = delivery
            .pending()
            .filter(|signal| !ignored.contains(signal));
        delivered
            .map(|signal| (signal, SignalAction::of(signal)))
            .collect()
    }

    /// Whether the signal has no effect because it was ignored at the start of this process.
    pub(crate) fn is_ignored(&self, signal: i32) -> bool {
        self.ignored.contains(&signal)
    }

    /// Handles pending signals when no job is left, and returns whether one of them requests the
    /// end.
    pub(crate) fn shutdown_requested(&mut self) -> bool {
        let mut asked = false;
        for (signal, action) in self.take_pending() {
            match action {
                SignalAction::Shutdown { .. } => asked = true,
                SignalAction::Stop => drop(dispositions::raise_default(signal)),
                _ => {}
            }
        }
        asked
    }
}

/// Lets this process write in the background of a terminal with `stty tostop`: after a request to
/// end, its messages must not stop it.
fn write_in_background() {
    // SAFETY: the call installs no handler.
    unsafe { libc::signal(libc::SIGTTOU, libc::SIG_IGN) };
}

impl AsFd for Signals {
    /// Readable when a signal has arrived.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.delivery.get_read().as_fd()
    }
}
