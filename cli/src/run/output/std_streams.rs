//! Our standard output and error. Written whenever there is nothing else to do, and never so that a reader who does
//! not read keeps us from hearing a signal.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};
use rustix::io::Errno;
use rustix::termios::isatty;

use crate::diagnostics::styled;
use crate::run::signals::Signals;
use crate::run::token::OUT;

/// A pipe that is ready to be written to takes so much without waiting (`PIPE_BUF`).
const AT_ONCE: usize = 4096;
/// Above this, it is not put off.
const MUCH: usize = 256 * 1024;

/// So long people have to take the last that they are told, when we are asked to end.
const LAST_PATIENCE: Duration = Duration::from_secs(1);

/// What was to be written and could not.
#[derive(Debug)]
pub(crate) enum Gone {
    /// Nobody reads it any more.
    Broken,
    /// Its reader takes nothing, and we are asked to end, or the time is over. What is left is kept.
    Stuck,
    /// For another reason: the disk is full.
    Failed(io::Error),
}

pub(crate) struct Outlet {
    out: Vec<u8>,
    err: Vec<u8>,
    /// Both are the same file or terminal (`2>&1`), so what comes to both keeps its order.
    one: bool,
    /// What we say ourselves waits here for the end of a line of a job's.
    held: Option<Vec<u8>>,
    /// Nothing is written to standard output any more.
    gone: bool,
}

impl Outlet {
    pub(crate) fn new() -> Self {
        let [out, err] = [rustix::stdio::stdout(), rustix::stdio::stderr()].map(fstat);
        let one = matches!((out, err), (Ok(out), Ok(err)) if (out.st_dev, out.st_ino) == (err.st_dev, err.st_ino));
        Self {
            out: Vec::new(),
            err: Vec::new(),
            one,
            held: None,
            gone: false,
        }
    }

    /// Whether standard output and error are the same file or terminal.
    pub(crate) fn is_one(&self) -> bool {
        self.one
    }

    pub(crate) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Where what jobs write to this stream of theirs goes on.
    pub(crate) fn of(&mut self, stream: usize) -> &mut Vec<u8> {
        match stream {
            OUT => &mut self.out,
            _ => self.err(),
        }
    }

    fn err(&mut self) -> &mut Vec<u8> {
        match self.one && !self.gone {
            true => &mut self.out,
            false => &mut self.err,
        }
    }

    /// Says something to people, on standard error.
    pub(crate) fn say(&mut self, text: &str) {
        let text = styled(text);
        match &mut self.held {
            Some(held) if self.one => held.extend(text.bytes()),
            _ => self.err().extend(text.bytes()),
        }
    }

    /// From now on our output is in the middle of a job's line, which what we say must not come into.
    pub(crate) fn hold_messages(&mut self) {
        self.held.get_or_insert_default();
    }

    /// The line has ended.
    pub(crate) fn release_messages(&mut self) {
        let held = self.held.take().unwrap_or_default();
        self.err().extend(held);
    }

    /// Whether our output is in the middle of a job's line.
    pub(crate) fn is_in_line(&self) -> bool {
        self.held.is_some()
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

    /// Writes all there is; readers who take nothing are waited for until then, if not for ever. `signal` is readable when
    /// we are asked to end. An error is told once; after it, what is for standard output is dropped.
    pub(crate) fn flush(
        &mut self,
        signal: BorrowedFd<'_>,
        until: Option<Instant>,
    ) -> Result<(), Gone> {
        if self.gone {
            self.out.clear();
        }
        let written = write_all(rustix::stdio::stdout(), &mut self.out, signal, until);
        if let Err(Gone::Broken | Gone::Failed(_)) = written {
            self.gone = true;
            self.out.clear();
        }
        match write_all(rustix::stdio::stderr(), &mut self.err, signal, until) {
            Ok(()) => written,
            Err(Gone::Stuck) => written.and(Err(Gone::Stuck)),
            // Nobody could be told that nothing can be told.
            Err(Gone::Broken | Gone::Failed(_)) => {
                self.err.clear();
                written
            }
        }
    }

    /// Tells people the last there is to tell. Once we are asked to end, they have a moment to take it.
    pub(crate) fn say_last(&mut self, text: &str, signals: &mut Signals, mut asked: bool) {
        self.say(text);
        loop {
            let until = asked.then(|| Instant::now() + LAST_PATIENCE);
            match self.flush(signals.as_fd(), until) {
                Err(Gone::Stuck) if !asked => asked = signals.ask_to_end(),
                _ => return,
            }
        }
    }

    /// Drops what could not be written.
    pub(crate) fn give_up(&mut self) {
        self.out.clear();
        self.err.clear();
    }
}

/// Takes off `bytes` what was written.
fn write_all(
    to: BorrowedFd<'_>,
    bytes: &mut Vec<u8>,
    signal: BorrowedFd<'_>,
    until: Option<Instant>,
) -> Result<(), Gone> {
    let mut left = bytes.as_slice();
    let written = write_slice(to, &mut left, signal, until);
    let count = bytes.len() - left.len();
    bytes.drain(..count);
    written
}

fn write_slice(
    to: BorrowedFd<'_>,
    bytes: &mut &[u8],
    signal: BorrowedFd<'_>,
    until: Option<Instant>,
) -> Result<(), Gone> {
    if bytes.is_empty() {
        return Ok(());
    }
    let is_file = fstat(to).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_file());
    while !bytes.is_empty() {
        let mut now = *bytes;
        if !is_file {
            wait_until_writable(to, signal, until)?;
            now = &bytes[..bytes.len().min(AT_ONCE)];
        }
        match rustix::io::write(to, now) {
            Ok(count) => *bytes = &bytes[count..],
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(Errno::PIPE) => return Err(Gone::Broken),
            Err(error) => return Err(Gone::Failed(error.into())),
        }
    }
    Ok(())
}

fn wait_until_writable(
    to: BorrowedFd<'_>,
    signal: BorrowedFd<'_>,
    until: Option<Instant>,
) -> Result<(), Gone> {
    loop {
        let mut either = [
            PollFd::from_borrowed_fd(to.as_fd(), PollFlags::OUT),
            PollFd::from_borrowed_fd(signal, PollFlags::IN),
        ];
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        // What is too long for the clock is as good as for ever.
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut either, left.as_ref()) {
            Err(Errno::INTR) => continue,
            Ok(0) => return Err(Gone::Stuck),
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
