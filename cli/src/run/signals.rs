//! Ctrl-C and other requests to end, as a descriptor that becomes readable.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGXFSZ};
use signal_hook::flag;
use signal_hook::low_level::pipe;

pub(crate) struct Signals {
    come: UnixStream,
    /// SIGQUIT was among them.
    quit: Arc<AtomicBool>,
}

impl Signals {
    /// From now on SIGINT, SIGTERM, SIGHUP and SIGQUIT do not end us, except where they are ignored: under `nohup`, in the background of
    /// a script.
    pub(crate) fn take() -> io::Result<Self> {
        let (ours, handlers) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let ignored = ignored();
        let quit = Arc::new(AtomicBool::new(false));
        // Before it is told that one has come: in the order of their registration they are called.
        if ignored & (1 << (SIGQUIT - 1)) == 0 {
            flag::register(SIGQUIT, Arc::clone(&quit))?;
        }
        for signal in [SIGINT, SIGTERM, SIGHUP, SIGQUIT] {
            if ignored & (1 << (signal - 1)) == 0 {
                pipe::register(signal, handlers.try_clone()?)?;
            }
        }
        // A file that may grow no more is an error of that write, not the end of us.
        flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
        Ok(Self { come: ours, quit })
    }

    /// How many have come since it was asked last.
    pub(crate) fn come(&self) -> usize {
        rustix::io::read(&self.come, &mut [0_u8; 64]).unwrap_or(0)
    }

    /// Whether one of them was SIGQUIT, which asks for an end at once.
    pub(crate) fn at_once(&self) -> bool {
        self.quit.load(Ordering::SeqCst)
    }
}

impl AsFd for Signals {
    /// Readable when one has come.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.come.as_fd()
    }
}

/// The signals that were ignored when we were started, a bit each (`SigIgn` in `proc(5)`).
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}
