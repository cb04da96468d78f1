//! What a child wrote, collected.

use std::fmt;
use std::io::{self, Read};
use std::process::{ChildStderr, ChildStdout};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::Exit;

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

/// Reads both to their ends. Both at a time: a child that fills one pipe while the other is read would never end.
pub(crate) fn read_both(
    mut stdout: Option<ChildStdout>,
    mut stderr: Option<ChildStderr>,
) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    while let (Some(first), Some(second)) = (&mut stdout, &mut stderr) {
        let mut ends = [
            PollFd::new(&*first, PollFlags::IN),
            PollFd::new(&*second, PollFlags::IN),
        ];
        match poll(&mut ends, None) {
            Err(Errno::INTR) => continue,
            polled => polled?,
        };
        let ready = ends.map(|end| !end.revents().is_empty());
        if ready[0] && read_some(first, &mut out)? == 0 {
            stdout = None;
        }
        if ready[1] && read_some(second, &mut err)? == 0 {
            stderr = None;
        }
    }
    if let Some(mut rest) = stdout {
        rest.read_to_end(&mut out)?;
    }
    if let Some(mut rest) = stderr {
        rest.read_to_end(&mut err)?;
    }
    Ok((out, err))
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
