//! What jobs write: taken in from their pipes, and passed on by whole lines.

use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::logs::Logs;
use super::outlet::Outlet;
use super::record::{OutputLine, to_line};
use crate::failure::Failure;

/// A line longer than this is passed on in pieces, so that nothing has to keep it.
const LINE_MAX: usize = 1024 * 1024;

/// Where it goes.
pub(crate) enum Route {
    /// To ours, as it is.
    Lines,
    /// To standard output, a record for each line.
    Records,
    /// To two files for each job.
    Files(Logs),
    /// Nowhere any more: writing has failed.
    Nowhere,
}

/// One stream of one job.
pub(crate) struct Stream {
    pipe: OwnedFd,
    /// Which of the job's attempts writes.
    attempt: u32,
    /// The start of a line whose end has not come.
    begun: Vec<u8>,
    /// What was before it on its line was passed on already.
    cut: bool,
}

/// Which stream of which job.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whose {
    pub(crate) job: u64,
    pub(crate) stream: usize,
}

impl Stream {
    pub(crate) fn new(pipe: OwnedFd, attempt: u32) -> Self {
        Self {
            pipe,
            attempt,
            begun: Vec::new(),
            cut: false,
        }
    }

    /// Whether reading would give something at once.
    pub(crate) fn has_something(&self) -> bool {
        rustix::io::ioctl_fionread(&self.pipe).is_ok_and(|count| count > 0)
    }

    /// Reads once, after the pipe was found readable. `None` at the end.
    pub(crate) fn read<'b>(&self, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
        loop {
            return match rustix::io::read(&self.pipe, &mut *buffer) {
                Ok(0) => None,
                Ok(count) => Some(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => None,
            };
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

impl Route {
    /// Passes on what was read, as far as whole lines go.
    pub(crate) fn pass(
        &mut self,
        whose: Whose,
        stream: &mut Stream,
        bytes: &[u8],
        outlet: &mut Outlet,
    ) -> Result<(), Failure> {
        if let Self::Files(logs) = self {
            return logs.append(whose, bytes);
        }
        let whole = bytes
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |end| end + 1);
        let (lines, begun) = bytes.split_at(whole);
        if !lines.is_empty() {
            if stream.begun.is_empty() {
                self.lines(whose, stream, lines, outlet);
            } else {
                stream.begun.extend_from_slice(lines);
                self.lines(whose, stream, &stream.begun, outlet);
                stream.begun.clear();
            }
            stream.cut = false;
        }
        stream.begun.extend_from_slice(begun);
        if stream.begun.len() >= LINE_MAX {
            self.piece(whose, stream, outlet);
            // Few lines are so long.
            stream.begun = Vec::new();
            stream.cut = true;
        }
        Ok(())
    }

    /// Passes on what there is of a line that is too long to be kept. It ends a line, or another job's would be in its
    /// middle.
    fn piece(&mut self, whose: Whose, stream: &Stream, outlet: &mut Outlet) {
        match self {
            Self::Records => {
                let record = OutputLine::piece(whose, stream.attempt, &stream.begun);
                outlet.out().extend(to_line(&record));
            }
            Self::Lines => {
                let out = outlet.of(whose.stream);
                out.extend_from_slice(&stream.begun);
                out.push(b'\n');
            }
            Self::Files(_) | Self::Nowhere => {}
        }
    }

    /// Passes on the rest, which no line end came for. It gets one, so that the next job's line begins a line.
    pub(crate) fn end(&mut self, whose: Whose, mut stream: Stream, outlet: &mut Outlet) {
        if !stream.begun.is_empty() {
            stream.begun.push(b'\n');
            self.lines(whose, &stream, &stream.begun, outlet);
        }
    }

    fn lines(&mut self, whose: Whose, stream: &Stream, lines: &[u8], outlet: &mut Outlet) {
        match self {
            Self::Lines => {
                // The end of a line that was just long enough to be cut: it has one already.
                let lines = match lines.strip_prefix(b"\n") {
                    Some(rest) if stream.cut => rest,
                    _ => lines,
                };
                outlet.of(whose.stream).extend_from_slice(lines);
            }
            Self::Records => {
                for line in lines.split_inclusive(|&byte| byte == b'\n') {
                    let line = line.strip_suffix(b"\n").unwrap_or(line);
                    let record = OutputLine::new(whose, stream.attempt, line);
                    outlet.out().extend(to_line(&record));
                }
            }
            Self::Files(_) | Self::Nowhere => {}
        }
    }
}
