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
    // The child can open its pipes for reading (`/dev/stdout`), and take what `poll` has seen. The
    // flag belongs to this end alone.
    let ends = [
        stdout.as_ref().map(AsFd::as_fd),
        stderr.as_ref().map(AsFd::as_fd),
    ];
    for end in ends.into_iter().flatten() {
        rustix::io::ioctl_fionbio(end, true).map_err(|errno| OutputError::Read(errno.into()))?;
    }
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

/// Reads what is available.
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
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                into.keep(0, limit);
                return Ok(());
            }
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

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use rustix::fs::{OFlags, fcntl_getfl};

    use super::*;

    /// An end of a pipe as a child would have it, and the writer.
    fn pipe() -> (ChildStdout, OwnedFd) {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        (ChildStdout::from(reader), writer)
    }

    #[test]
    fn a_pipe_whose_data_another_process_took_stays_open() {
        let (reader, writer) = pipe();
        rustix::io::ioctl_fionbio(&reader, true).unwrap();
        let (mut pipe, mut into) = (Some(reader), Collected::default());
        read_or_close(&mut pipe, &mut into, 9).unwrap();
        assert!(pipe.is_some());
        drop(writer);
        read_or_close(&mut pipe, &mut into, 9).unwrap();
        assert!(pipe.is_none() && into.bytes.is_empty());
    }

    #[test]
    fn reads_of_both_pipes_do_not_block() {
        let [(out, out_writer), (err, err_writer)] = [pipe(), pipe()];
        let ends = [&out.as_fd(), &err.as_fd()].map(|end| end.try_clone_to_owned().unwrap());
        rustix::io::write(&err_writer, b"problem").unwrap();
        drop((out_writer, err_writer));
        let err = ChildStderr::from(OwnedFd::from(err));
        let (out, err) = read_both(Some(out), Some(err), 9, || Ok(())).unwrap();
        assert_eq!(
            (&out.bytes[..], &err.bytes[..]),
            (&b""[..], &b"problem"[..])
        );
        for end in ends {
            assert!(fcntl_getfl(end).unwrap().contains(OFlags::NONBLOCK));
        }
    }
}
