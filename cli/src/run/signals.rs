//! Signals that come to us, as a descriptor that becomes readable. None that can be caught ends us at once: jobs would run on, and
//! nobody would write down how they end.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;
use signal_hook::low_level;

use crate::dispositions;
use crate::run::fault_signals as faults;

/// Signals that cannot be caught, end nobody, or have their effect without us: SIGTTIN and SIGTTOU keep a program in the
/// background off the terminal, SIGPIPE is an error of the write already.
const LEFT_ALONE: [i32; 9] = [
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
    /// Signals that were ignored when we were started, and are by us. They are caught all the same, so that jobs do not inherit
    /// that: these are signals of a terminal, which reach no job in its own group.
    deaf: Vec<i32>,
}

/// What a signal means to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// A request to end; to end at once if it is SIGQUIT.
    End { at_once: bool },
    /// One more job at a time.
    More,
    /// One fewer.
    Fewer,
    /// A request to stop: Ctrl-Z at a terminal.
    Stop,
    /// Nothing that is known here.
    Unknown,
    /// Nothing that has to be reported.
    Nothing,
}

impl Meaning {
    fn of(signal: i32) -> Self {
        match signal {
            libc::SIGINT | libc::SIGTERM | libc::SIGHUP => Self::End { at_once: false },
            // A limit of processor time, a power failure, a watchdog.
            libc::SIGXCPU | libc::SIGPWR | libc::SIGABRT => Self::End { at_once: false },
            libc::SIGQUIT => Self::End { at_once: true },
            libc::SIGUSR1 => Self::More,
            libc::SIGUSR2 => Self::Fewer,
            libc::SIGTSTP => Self::Stop,
            // A file that may grow no more is an error of that write.
            libc::SIGXFSZ => Self::Nothing,
            _ => Self::Unknown,
        }
    }
}

impl Signals {
    /// From now on no signal ends us, except SIGKILL. SIGINT, SIGQUIT and SIGTSTP do nothing where they are ignored (in the
    /// background of a script), nor SIGHUP under `nohup`, which jobs ignore, too.
    pub(crate) fn take() -> io::Result<Self> {
        let (ours, handlers) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let caught = |signal: &i32| {
            let nohup = *signal == libc::SIGHUP && dispositions::is_ignored(*signal);
            !LEFT_ALONE.contains(signal) && !faults::FAULTS.contains(signal) && !nohup
        };
        let caught: Vec<i32> = dispositions::all().filter(caught).collect();
        let deaf: Vec<i32> = [libc::SIGINT, libc::SIGQUIT, libc::SIGTSTP]
            .into_iter()
            .filter(|signal| dispositions::is_ignored(*signal))
            .collect();
        for &signal in &caught {
            if matches!(Meaning::of(signal), Meaning::End { .. }) && !deaf.contains(&signal) {
                // SAFETY: the action makes one system call that a handler may make.
                unsafe { low_level::register(signal, write_in_background)? };
            }
        }
        let delivery = SignalDelivery::with_pipe(ours, handlers, SignalOnly, caught)?;
        faults::survive_sent_ones()?;
        Ok(Self { delivery, deaf })
    }

    /// Those that have come since it was asked last. One that came several times is there once.
    pub(crate) fn take_pending(&mut self) -> Vec<(i32, Meaning)> {
        let Self { delivery, deaf } = self;
        let heard = delivery.pending().filter(|signal| !deaf.contains(signal));
        heard.map(|signal| (signal, Meaning::of(signal))).collect()
    }

    /// Whether it does nothing, as it was ignored when we were started.
    pub(crate) fn is_deaf(&self, signal: i32) -> bool {
        self.deaf.contains(&signal)
    }

    /// Whether we are asked to end, when nothing else is left to do.
    pub(crate) fn ask_to_end(&mut self) -> bool {
        let mut asked = false;
        for (signal, meaning) in self.take_pending() {
            match meaning {
                Meaning::End { .. } => asked = true,
                Meaning::Stop => drop(dispositions::obey(signal)),
                _ => {}
            }
        }
        asked
    }
}

/// What is asked to end is not to be stopped by what it has to say in the background of a terminal (`stty tostop`).
fn write_in_background() {
    // SAFETY: no handler is set.
    unsafe { libc::signal(libc::SIGTTOU, libc::SIG_IGN) };
}

impl AsFd for Signals {
    /// Readable when one has come.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.delivery.get_read().as_fd()
    }
}
