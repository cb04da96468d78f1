//! Collecting the output of a child.

use std::fmt;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::process::{ChildStderr, ChildStdout};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::Exit;
use crate::error::OutputError;

/// The exit of a child and its collected output.
///
/// [`Child::wait_with_output`](crate::Child::wait_with_output) makes it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Output {
    /// The exit.
    pub exit: Exit,
    /// The bytes of standard output; empty if it was not piped, or the pipe was taken before.
    pub stdout: Vec<u8>,
    /// The bytes of standard error; empty if it was not piped, or the pipe was taken before.
    pub stderr: Vec<u8>,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output")
            .field("exit", &self.exit)
            .field("stdout", &String::from_utf8_lossy(&self.stdout))
            .field("stderr", &String::from_utf8_lossy(&self.stderr))
            .finish()
    }
}

/// How often [`read_both`] calls `check` while the pipes are idle.
const CHECK_INTERVAL: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// Reads both pipes to their ends.
///
/// It reads them concurrently, because a child that fills one pipe while the parent reads the other
/// would block forever. While both are idle, `check` runs every [`CHECK_INTERVAL`]; its error ends
/// the read.
pub(crate) fn read_both(
    mut stdout: Option<ChildStdout>,
    mut stderr: Option<ChildStderr>,
    check: impl Fn() -> Result<(), OutputError>,
) -> Result<(Vec<u8>, Vec<u8>), OutputError> {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    loop {
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
        match poll(&mut poll_fds, Some(&CHECK_INTERVAL)) {
            Ok(0) => check()?,
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(OutputError::Read(errno.into())),
        }
        let mut ready = poll_fds.iter().map(|fd| !fd.revents().is_empty());
        let ready = [&first, &second].map(|pipe| pipe.is_some() && ready.next() == Some(true));
        if ready[0] {
            read_or_close(&mut stdout, &mut out)?;
        }
        if ready[1] {
            read_or_close(&mut stderr, &mut err)?;
        }
    }
}

fn read_or_close(pipe: &mut Option<impl Read>, into: &mut Vec<u8>) -> Result<(), OutputError> {
    let Some(open) = pipe else {
        return Ok(());
    };
    if read_some(open, into).map_err(OutputError::Read)? == 0 {
        *pipe = None;
    }
    Ok(())
}

/// Reads what is available, at most 64 KiB (the default capacity of a pipe, `pipe(7)`). Returns 0
/// at the end of the stream. Does not block if the pipe is readable.
fn read_some(pipe: &mut impl Read, into: &mut Vec<u8>) -> io::Result<usize> {
    let before = into.len();
    into.resize(before + (64 << 10), 0);
    let read = loop {
        match pipe.read(&mut into[before..]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => break read,
        }
    };
    into.truncate(before + read.as_ref().map_or(0, |count| *count));
    read
}
