//! Ctrl-C and other requests to end, as a descriptor that becomes readable.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;
use signal_hook::low_level::pipe;

pub(crate) struct Signals(UnixStream);

impl Signals {
    /// From now on SIGINT, SIGTERM and SIGHUP do not end us, except where they are ignored: under `nohup`, in the background of
    /// a script.
    pub(crate) fn take() -> io::Result<Self> {
        let (ours, handlers) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let ignored = ignored();
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            if ignored & (1 << (signal - 1)) == 0 {
                pipe::register(signal, handlers.try_clone()?)?;
            }
        }
        // A file that may grow no more is an error of that write, not the end of us.
        flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
        Ok(Self(ours))
    }

    /// How many have come since it was asked last.
    pub(crate) fn come(&self) -> usize {
        rustix::io::read(&self.0, &mut [0_u8; 64]).unwrap_or(0)
    }
}

impl AsFd for Signals {
    /// Readable when one has come.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The signals that were ignored when we were started, a bit each (`SigIgn` in `proc(5)`).
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}
