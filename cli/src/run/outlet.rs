//! Our standard output and error. Written whenever there is nothing else to do, and never so that a reader who does
//! not read keeps us from hearing a signal.

use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, fstat};
use rustix::io::Errno;
use rustix::termios::isatty;

/// A pipe that is ready to be written to takes so much without waiting (`PIPE_BUF`).
const AT_ONCE: usize = 4096;
/// Above this, it is not put off.
const MUCH: usize = 256 * 1024;

/// What was to be written and could not.
#[derive(Debug)]
pub(crate) enum Gone {
    /// Nobody reads it any more.
    Broken,
    /// Its reader takes nothing, and we are asked to end.
    Stuck,
    /// For another reason: the disk is full.
    Failed(io::Error),
}

#[derive(Default)]
pub(crate) struct Outlet {
    out: Vec<u8>,
    err: Vec<u8>,
    /// Nothing is written to standard output any more.
    gone: bool,
}

impl Outlet {
    pub(crate) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    pub(crate) fn err(&mut self) -> &mut Vec<u8> {
        &mut self.err
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.out.is_empty() && self.err.is_empty()
    }

    /// Whether it goes to where a progress bar may be.
    pub(crate) fn is_seen(&self) -> bool {
        !self.err.is_empty() || isatty(rustix::stdio::stdout())
    }

    pub(crate) fn is_much(&self) -> bool {
        self.out.len() + self.err.len() > MUCH
    }

    /// Writes all there is. `signal` is readable when we are asked to end. An error is told once; after it, what is for
    /// standard output is dropped.
    pub(crate) fn flush(&mut self, signal: BorrowedFd<'_>) -> Result<(), Gone> {
        let mut out = mem::take(&mut self.out);
        let written = match self.gone {
            true => Ok(()),
            false => write_all(rustix::stdio::stdout(), &out, signal),
        };
        // Its capacity is kept.
        out.clear();
        self.out = out;
        self.gone |= written.is_err();
        // Nobody could be told that nothing can be told.
        let _ = write_all(rustix::stdio::stderr(), &self.err, signal);
        self.err.clear();
        written
    }
}

fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8], signal: BorrowedFd<'_>) -> Result<(), Gone> {
    if bytes.is_empty() {
        return Ok(());
    }
    let is_file = fstat(to).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_file());
    while !bytes.is_empty() {
        let mut now = bytes;
        if !is_file {
            wait_until_writable(to, signal)?;
            now = &bytes[..bytes.len().min(AT_ONCE)];
        }
        match rustix::io::write(to, now) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(Errno::PIPE) => return Err(Gone::Broken),
            Err(error) => return Err(Gone::Failed(error.into())),
        }
    }
    Ok(())
}

fn wait_until_writable(to: BorrowedFd<'_>, signal: BorrowedFd<'_>) -> Result<(), Gone> {
    loop {
        let mut either = [
            PollFd::from_borrowed_fd(to.as_fd(), PollFlags::OUT),
            PollFd::from_borrowed_fd(signal, PollFlags::IN),
        ];
        match poll(&mut either, None) {
            Err(Errno::INTR) => continue,
            Err(error) => return Err(Gone::Failed(error.into())),
            Ok(_) => {}
        }
        let [to, signal] = either.map(|end| !end.revents().is_empty());
        match (to, signal) {
            // An error shows when it is written to.
            (true, _) => return Ok(()),
            (false, true) => return Err(Gone::Stuck),
            (false, false) => {}
        }
    }
}
