//! What a child wrote, collected.

use std::fmt;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::process::{ChildStderr, ChildStdout};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::Exit;
use crate::error::OutputError;

/// How a child ended, and what it wrote. Made by [`Child::wait_with_output`](crate::Child::wait_with_output).
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Output {
    /// How it ended.
    pub exit: Exit,
    /// What it wrote to standard output, if that was piped, and not taken before.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error, likewise.
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

/// How often it is looked whether there is a watcher still.
const POLL_INTERVAL: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// Reads both to their ends. Both at a time: a child that fills one pipe while the other is read would never end. `go_on` is asked
/// every now and then while nothing comes.
pub(crate) fn read_both(
    mut stdout: Option<ChildStdout>,
    mut stderr: Option<ChildStderr>,
    go_on: impl Fn() -> Result<(), OutputError>,
) -> Result<(Vec<u8>, Vec<u8>), OutputError> {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    loop {
        let [first, second] = [
            stdout.as_ref().map(AsFd::as_fd),
            stderr.as_ref().map(AsFd::as_fd),
        ];
        let mut ends: Vec<_> = [first, second]
            .into_iter()
            .flatten()
            .map(|pipe| PollFd::from_borrowed_fd(pipe, PollFlags::IN))
            .collect();
        if ends.is_empty() {
            return Ok((out, err));
        }
        match poll(&mut ends, Some(&POLL_INTERVAL)) {
            Ok(0) => go_on()?,
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(OutputError::Read(errno.into())),
        }
        let mut ready = ends.iter().map(|end| !end.revents().is_empty());
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
    if let Some(open) = pipe
        && read_some(open, into).map_err(OutputError::Read)? == 0
    {
        *pipe = None;
    }
    Ok(())
}

/// What there is, a pipe's usual capacity at most; 0 at the end. Does not block if the pipe is readable.
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
