//! Collecting the output of a child.

use std::fmt;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::process::{ChildStderr, ChildStdout};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::Exit;
use crate::error::OutputError;

/// The exit of a child and its collected output.
///
/// [`Child::wait_with_output`](crate::Child::wait_with_output) and
/// [`Child::output`](crate::Child::output) make it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Output {
    /// The exit.
    pub exit: Exit,
    /// The bytes of standard output; empty if it was not piped, or the pipe was taken before.
    pub stdout: Vec<u8>,
    /// The bytes of standard error; empty if it was not piped, or the pipe was taken before.
    pub stderr: Vec<u8>,
    /// How many further bytes of both streams were read and discarded, because a stream had more
    /// than the limit of the call.
    pub discarded: u64,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output")
            .field("exit", &self.exit)
            .field("stdout", &String::from_utf8_lossy(&self.stdout))
            .field("stderr", &String::from_utf8_lossy(&self.stderr))
            .field("discarded", &self.discarded)
            .finish()
    }
}

/// How often [`read_both`] calls `check`.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// What was read from one pipe, up to a limit.
#[derive(Default)]
pub(crate) struct Collected {
    pub(crate) bytes: Vec<u8>,
    pub(crate) discarded: u64,
}

impl Collected {
    /// Makes room for the next read: what the pipe may hold, 64 KiB by default (`pipe(7)`).
    pub(crate) fn room(&mut self) -> &mut [u8] {
        let before = self.bytes.len();
        self.bytes.resize(before + ROOM, 0);
        &mut self.bytes[before..]
    }

    /// Keeps this many bytes of the [`room`](Self::room), and not more than the limit in all.
    pub(crate) fn keep(&mut self, count: usize, limit: usize) {
        let read = self.bytes.len() - ROOM + count;
        self.bytes.truncate(read.min(limit));
        self.discarded += (read - self.bytes.len()) as u64;
    }
}

const ROOM: usize = 64 << 10;

/// Reads both pipes to their ends, and keeps at most `limit` bytes of each.
///
/// It reads them concurrently, because a child that fills one pipe while the parent reads the other
/// would block forever. `check` runs every [`CHECK_INTERVAL`]; its error ends the read.
pub(crate) fn read_both(
    mut stdout: Option<ChildStdout>,
    mut stderr: Option<ChildStderr>,
    limit: usize,
    check: impl Fn() -> Result<(), OutputError>,
) -> Result<(Collected, Collected), OutputError> {
    let (mut out, mut err) = (Collected::default(), Collected::default());
    let mut checked_at = Instant::now();
    loop {
        // Also while the child writes all the time.
        if checked_at.elapsed() >= CHECK_INTERVAL {
            check()?;
            checked_at = Instant::now();
        }
        let [first, second] = [
            stdout.as_ref().map(AsFd::as_fd),
            stderr.as_ref().map(AsFd::as_fd),
        ];
        let mut poll_fds: Vec<_> = [first, second]
            .into_iter()
            .flatten()
            .map(|pipe| PollFd::from_borrowed_fd(pipe, PollFlags::IN))
            .collect();
        if poll_fds.is_empty() {
            return Ok((out, err));
        }
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: CHECK_INTERVAL.subsec_nanos().into(),
        };
        match poll(&mut poll_fds, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(OutputError::Read(errno.into())),
        }
        let mut ready = poll_fds.iter().map(|fd| !fd.revents().is_empty());
        let ready = [&first, &second].map(|pipe| pipe.is_some() && ready.next() == Some(true));
        if ready[0] {
            read_or_close(&mut stdout, &mut out, limit)?;
        }
        if ready[1] {
            read_or_close(&mut stderr, &mut err, limit)?;
        }
    }
}

/// Reads what is available. Does not block if the pipe is readable.
fn read_or_close(
    pipe: &mut Option<impl Read>,
    into: &mut Collected,
    limit: usize,
) -> Result<(), OutputError> {
    let Some(open) = pipe else {
        return Ok(());
    };
    let read = loop {
        match open.read(into.room()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => into.keep(0, limit),
            read => break read,
        }
    };
    let count = read.map_err(OutputError::Read)?;
    into.keep(count, limit);
    if count == 0 {
        *pipe = None;
    }
    Ok(())
}
