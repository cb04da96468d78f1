//! What jobs write: taken in from their pipes, and passed on by whole lines.

use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::run::output::std_streams::Outlet;
use crate::run::report::record::{OutputLine, to_line};
use crate::run::token::Whose;

/// A line longer than this is passed on as it comes, so that nothing has to keep it.
const LINE_MAX: usize = 1024 * 1024;

/// Where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// To ours, as it is.
    Lines,
    /// To standard output, a record for each line.
    Records,
    /// Jobs write somewhere themselves.
    Nowhere,
}

/// One stream of one job.
pub(crate) struct Stream {
    pipe: OwnedFd,
    /// Which of the job's attempts writes.
    attempt: u32,
    /// The start of a line whose end has not come, or what comes after the part of it that was passed on.
    begun: Vec<u8>,
    /// A part of the line was passed on already.
    cut: bool,
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

    /// Whether our output ends in the middle of a line of this stream.
    pub(crate) fn is_in_line(&self, route: Route) -> bool {
        self.cut && route == Route::Lines
    }

    /// Passes on what was read, as far as whole lines go.
    pub(crate) fn pass(&mut self, whose: Whose, bytes: &[u8], route: Route, outlet: &mut Outlet) {
        let whole = bytes
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |end| end + 1);
        let (lines, begun) = bytes.split_at(whole);
        if !lines.is_empty() {
            if self.begun.is_empty() {
                self.lines(whose, lines, route, outlet);
            } else {
                let mut all = std::mem::take(&mut self.begun);
                all.extend_from_slice(lines);
                self.lines(whose, &all, route, outlet);
                all.clear();
                self.begun = all;
            }
            self.cut = false;
        }
        self.begun.extend_from_slice(begun);
        if self.begun.len() >= LINE_MAX || self.is_in_line(route) {
            self.piece(whose, route, outlet);
        }
    }

    /// Passes on what there is of a line that is too long to be kept.
    fn piece(&mut self, whose: Whose, route: Route, outlet: &mut Outlet) {
        match route {
            Route::Records => {
                let (piece, rest) = self.begun.split_at(whole_characters(&self.begun));
                outlet
                    .out()
                    .extend(to_line(&OutputLine::piece(whose, self.attempt, piece)));
                self.begun = rest.to_vec();
            }
            Route::Lines => {
                outlet.of(whose.stream).extend_from_slice(&self.begun);
                // Few lines are so long.
                self.begun = Vec::new();
            }
            Route::Nowhere => self.begun = Vec::new(),
        }
        self.cut = true;
    }

    /// Ends a line in the middle of which our output is, as others have waited for its end for too long.
    pub(crate) fn break_line(&mut self, whose: Whose, outlet: &mut Outlet) {
        outlet.of(whose.stream).push(b'\n');
        self.cut = false;
    }

    /// Passes on the rest, which no line end came for. It gets one, so that the next job's line begins a line.
    pub(crate) fn end_line(&mut self, whose: Whose, route: Route, outlet: &mut Outlet) {
        if !self.begun.is_empty() || self.cut {
            let mut rest = std::mem::take(&mut self.begun);
            rest.push(b'\n');
            self.lines(whose, &rest, route, outlet);
            self.cut = false;
        }
    }

    pub(crate) fn into_pipe(self) -> OwnedFd {
        self.pipe
    }

    fn lines(&self, whose: Whose, lines: &[u8], route: Route, outlet: &mut Outlet) {
        match route {
            Route::Lines => outlet.of(whose.stream).extend_from_slice(lines),
            Route::Records => {
                for line in lines.split_inclusive(|&byte| byte == b'\n') {
                    let line = line.strip_suffix(b"\n").unwrap_or(line);
                    let record = OutputLine::new(whose, self.attempt, line);
                    outlet.out().extend(to_line(&record));
                }
            }
            Route::Nowhere => {}
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

/// Up to the last character that is whole, if it is UTF-8 until there.
fn whole_characters(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_ends_with_a_whole_character() {
        assert_eq!(whole_characters("aü".as_bytes()), 3);
        assert_eq!(whole_characters(&"aü".as_bytes()[..2]), 1);
        assert_eq!(whole_characters(&"a€".as_bytes()[..3]), 1);
        // Not UTF-8 anyway.
        assert_eq!(whole_characters(b"a\xffb\xc3"), 4);
        assert_eq!(whole_characters(b"abc"), 3);
    }
}
