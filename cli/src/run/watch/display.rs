//! The drawing of the view.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write, stderr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use ratatui::backend::CrosstermBackend;
use ratatui::layout::Rect;
use ratatui::{Terminal, TerminalOptions, Viewport};
use rustix::termios::tcgetwinsize;

use super::snapshot::{FailedRow, Snapshot};
use super::{screen, view};
use crate::failure::Failure;
use crate::run::report::progress::{DRAW_INTERVAL, in_foreground, is_writable};
use crate::run::report::record::Record;
use crate::run::report::text::one_line;

/// Failed jobs that are kept, more than a screen shows.
const FAILED_MAX: usize = 200;
const TEXT_MAX: usize = 300;
/// A terminal that is ready accepts this many bytes without blocking.
const WRITE_MAX: usize = 256;
/// How soon the rest of a drawing is written.
const WRITE_RETRY: Duration = Duration::from_millis(20);

pub(crate) struct Display {
    terminal: Terminal<CrosstermBackend<Drawn>>,
    /// What was drawn and is not written yet.
    drawn: Drawn,
    area: Rect,
    begun: Instant,
    last: Option<Instant>,
    failed: VecDeque<FailedRow>,
}

/// The bytes of a drawing.
#[derive(Clone, Default)]
struct Drawn(Rc<RefCell<Vec<u8>>>);

impl Write for Drawn {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Display {
    /// Checks the terminal, and draws nothing yet.
    pub(crate) fn new() -> Result<Self, Failure> {
        if !stderr().is_terminal() {
            let failure = Failure::usage("--watch needs a terminal on standard error");
            return Err(failure.remedy("remove --watch, or do not redirect standard error"));
        }
        let drawn = Drawn::default();
        let area = size();
        let terminal = terminal(&drawn, area)
            .map_err(|error| Failure::resource(format!("cannot draw on the terminal: {error}")))?;
        Ok(Self {
            terminal,
            drawn,
            area,
            begun: Instant::now(),
            last: None,
            failed: VecDeque::new(),
        })
    }

    /// Adds a job that has failed.
    pub(crate) fn add_failed(&mut self, record: &Record<'_>) {
        if self.failed.len() == FAILED_MAX {
            self.failed.pop_front();
        }
        self.failed.push_back(FailedRow {
            job: record.job,
            result: one_line(&record.description(), TEXT_MAX),
            command: one_line(&record.command, TEXT_MAX),
        });
    }

    /// The time until the next drawing.
    pub(crate) fn wait_timeout(&self) -> Duration {
        if !self.drawn.0.borrow().is_empty() {
            return WRITE_RETRY;
        }
        let since = self.last.map(|last| last.elapsed());
        since.map_or(Duration::ZERO, |since| DRAW_INTERVAL.saturating_sub(since))
    }

    /// Draws the view if it is time. `snapshot` is called only then, with the number of jobs that
    /// fit at the most.
    pub(crate) fn update<'a>(
        &'a mut self,
        snapshot: impl FnOnce(usize, Duration, &'a VecDeque<FailedRow>) -> Snapshot<'a>,
    ) {
        self.write();
        let due = self.last.is_none_or(|last| last.elapsed() >= DRAW_INTERVAL);
        if !due || !self.drawn.0.borrow().is_empty() {
            return;
        }
        self.last = Some(Instant::now());
        if !in_foreground() || !is_writable() {
            return;
        }
        let taken_before = screen::is_taken();
        if !taken_before && screen::enter().is_err() {
            return;
        }
        let area = size();
        if area != self.area || !taken_before {
            // All of it is drawn again.
            let Ok(terminal) = terminal(&self.drawn, area) else {
                return;
            };
            let _ = self.drawn.write_all(b"\x1b[2J");
            (self.terminal, self.area) = (terminal, area);
        }
        let shown = snapshot(usize::from(area.height), self.begun.elapsed(), &self.failed);
        // It writes to memory.
        let _ = self.terminal.draw(|frame| view::draw(frame, &shown));
        write(&self.drawn);
    }

    fn write(&mut self) {
        write(&self.drawn);
    }

    /// Returns the terminal, before this process is stopped. The next drawing takes it again.
    pub(crate) fn leave(&mut self) {
        self.drawn.0.borrow_mut().clear();
        // In the background the terminal has another owner, and a change of its modes would stop
        // this process.
        if in_foreground() {
            screen::leave();
        }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Writes what the terminal accepts without blocking.
fn write(drawn: &Drawn) {
    let mut bytes = drawn.0.borrow_mut();
    let mut written = 0;
    while written < bytes.len() && in_foreground() && is_writable() {
        let end = bytes.len().min(written + WRITE_MAX);
        match stderr().write(&bytes[written..end]) {
            Ok(count) => written += count,
            Err(_) => break,
        }
    }
    bytes.drain(..written);
}

fn terminal(drawn: &Drawn, area: Rect) -> io::Result<Terminal<CrosstermBackend<Drawn>>> {
    let viewport = Viewport::Fixed(area);
    Terminal::with_options(
        CrosstermBackend::new(drawn.clone()),
        TerminalOptions { viewport },
    )
}

fn size() -> Rect {
    let size = tcgetwinsize(stderr()).ok();
    let size = size.filter(|size| size.ws_col > 0 && size.ws_row > 0);
    let (columns, rows) = size.map_or((80, 24), |size| (size.ws_col, size.ws_row));
    Rect::new(0, 0, columns, rows)
}
