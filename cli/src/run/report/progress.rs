//! The progress bar, on standard error if that is a terminal.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::getpgrp;
use rustix::termios::tcgetpgrp;

use super::bar_terminal::BarTerminal;

use crate::locale;

/// How often the bar is drawn.
pub(crate) const DRAW_INTERVAL: Duration = Duration::from_millis(100);

/// The bar's library skips drawings above this rate.
const DRAWS_PER_SECOND_MAX: u8 = 20;

pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    drawn: Instant,
}

/// The numbers that the bar shows.
#[derive(Clone, Debug)]
pub(crate) struct ProgressCounts {
    pub(crate) running: usize,
    pub(crate) done: u64,
    pub(crate) failed: u64,
    pub(crate) expected: Option<u64>,
    /// Why no further job starts.
    pub(crate) hold_reason: Option<String>,
}

impl Progress {
    pub(crate) fn new(wanted: bool) -> Self {
        let bar = (wanted && stderr().is_terminal()).then(|| {
            let terminal = Box::new(BarTerminal::default());
            let target = ProgressDrawTarget::term_like_with_hz(terminal, DRAWS_PER_SECOND_MAX);
            let bar = ProgressBar::with_draw_target(None, target);
            bar.set_style(style("{msg}  {per_sec}  {elapsed}"));
            bar
        });
        Self {
            bar,
            drawn: Instant::now(),
        }
    }

    /// The time until the next drawing. `mid_line`: standard output is in the middle of a line of a
    /// job, so nothing is drawn before the line's end, which is an event of its own.
    pub(crate) fn wait_timeout(&self, mid_line: bool) -> Option<Duration> {
        self.bar
            .as_ref()
            .filter(|_| !mid_line)
            .map(|_| DRAW_INTERVAL.saturating_sub(self.drawn.elapsed()))
    }

    /// Draws the bar if it is time. `counts` is called only then.
    pub(crate) fn update(&mut self, counts: impl FnOnce() -> ProgressCounts) {
        let Some(bar) = &self.bar else { return };
        if self.drawn.elapsed() < DRAW_INTERVAL {
            return;
        }
        self.drawn = Instant::now();
        if !is_writable() || !in_foreground() {
            return;
        }
        let ProgressCounts {
            running,
            done,
            failed,
            expected,
            hold_reason,
        } = counts();
        if let Some(expected) = expected
            && bar.length() != Some(expected)
        {
            if bar.length().is_none() {
                bar.set_style(style("{wide_bar} {pos}/{len}  {msg}  {per_sec}  ETA {eta}"));
            }
            bar.set_length(expected.max(done));
        }
        let mut message = format!("{running} running, {done} done, {failed} failed");
        if let Some(reason) = hold_reason {
            message.push_str(&format!("; waiting: {reason}"));
        }
        bar.set_message(message);
        bar.set_position(done);
    }

    /// Runs `act` while the bar is off the terminal.
    pub(crate) fn suspend<T>(&self, act: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) if is_writable() && in_foreground() => bar.suspend(act),
            _ => act(),
        }
    }

    /// Clears the bar before this process is stopped, as the shell then uses the line. The bar is
    /// drawn again once the process continues in the foreground.
    pub(crate) fn clear(&self) {
        if self.bar.is_some() && is_writable() && in_foreground() {
            let _ = stderr().write_all(b"\r\x1b[2K");
        }
    }

    pub(crate) fn finish(&self) {
        let Some(bar) = &self.bar else { return };
        if !is_writable() || !in_foreground() {
            // The drop of the bar must not draw either.
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        bar.finish_and_clear();
    }
}

/// Whether the terminal accepts output without blocking. A terminal that no process drains must not
/// block the run.
pub(crate) fn is_writable() -> bool {
    let stderr = stderr();
    let mut end = [PollFd::new(&stderr, PollFlags::OUT)];
    poll(&mut end, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// Whether this process is in the foreground of the terminal. In the background the terminal
/// belongs to other processes, and with `stty tostop` a write would stop this one. There is no
/// background if the query fails, because the terminal is not the controlling one.
pub(crate) fn in_foreground() -> bool {
    tcgetpgrp(stderr()).map_or(true, |foreground| foreground == getpgrp())
}

fn style(template: &str) -> ProgressStyle {
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    match locale::is_utf8() {
        true => style,
        false => style.progress_chars("=>-"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_due_in_the_middle_of_a_line() {
        let mut progress = Progress {
            bar: Some(ProgressBar::hidden()),
            drawn: Instant::now(),
        };
        // The time of the last drawing is long over.
        std::thread::sleep(DRAW_INTERVAL);
        assert_eq!(progress.wait_timeout(false), Some(Duration::ZERO));
        assert_eq!(progress.wait_timeout(true), None);
        progress.bar = None;
        assert_eq!(progress.wait_timeout(false), None);
    }
}
