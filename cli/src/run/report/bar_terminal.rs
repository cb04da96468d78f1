//! The terminal of the progress bar: standard error, without its last columns.

use std::fmt::Write as _;
use std::io::{self, Write, stderr};
use std::sync::{Mutex, PoisonError};

use indicatif::TermLike;
use rustix::termios::tcgetwinsize;

/// The echo of Ctrl-C and Ctrl-Z (`^Z`) fits to the right of the bar, and is cleared with it.
const FREE_COLUMNS: u16 = 2;
const DEFAULT_WIDTH: u16 = 80;

/// What was drawn since the last flush.
#[derive(Debug, Default)]
pub(crate) struct BarTerminal(Mutex<String>);

impl BarTerminal {
    fn draw(&self, what: std::fmt::Arguments<'_>) -> io::Result<()> {
        let mut drawn = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        drawn.write_fmt(what).map_err(io::Error::other)
    }

    fn move_cursor(&self, count: usize, direction: char) -> io::Result<()> {
        match count {
            0 => Ok(()),
            _ => self.draw(format_args!("\x1b[{count}{direction}")),
        }
    }
}

impl TermLike for BarTerminal {
    fn width(&self) -> u16 {
        let size = tcgetwinsize(stderr()).map_or(0, |size| size.ws_col);
        let width = if size == 0 { DEFAULT_WIDTH } else { size };
        width.saturating_sub(FREE_COLUMNS).max(1)
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.move_cursor(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.move_cursor(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.move_cursor(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.move_cursor(n, 'D')
    }

    fn write_line(&self, s: &str) -> io::Result<()> {
        self.draw(format_args!("{s}\n"))
    }

    fn write_str(&self, s: &str) -> io::Result<()> {
        self.draw(format_args!("{s}"))
    }

    fn clear_line(&self) -> io::Result<()> {
        self.draw(format_args!("\r\x1b[2K"))
    }

    fn flush(&self) -> io::Result<()> {
        let mut drawn = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let written = stderr().write_all(drawn.as_bytes());
        drawn.clear();
        written
    }
}
