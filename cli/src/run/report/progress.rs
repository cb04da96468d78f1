//! The progress bar, on standard error, if that is a terminal.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::getpgrp;
use rustix::termios::tcgetpgrp;

use crate::run::report::bar_terminal::Terminal;

use crate::locale;

/// How often it is drawn anew.
pub(crate) const EVERY: Duration = Duration::from_millis(100);

/// A drawing that comes sooner after another is left out.
const HERTZ_MAX: u8 = 20;

pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    drawn: Instant,
}

/// What it shows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbers {
    pub(crate) running: usize,
    pub(crate) done: u64,
    pub(crate) failed: u64,
    pub(crate) expected: Option<u64>,
}

impl Progress {
    pub(crate) fn new(wanted: bool) -> Self {
        let bar = (wanted && stderr().is_terminal()).then(|| {
            let terminal = Box::new(Terminal::default());
            let target = ProgressDrawTarget::term_like_with_hz(terminal, HERTZ_MAX);
            let bar = ProgressBar::with_draw_target(None, target);
            bar.set_style(style("{msg}  {per_sec}  {elapsed}"));
            bar
        });
        Self {
            bar,
            drawn: Instant::now(),
        }
    }

    /// How long to wait for something to happen at most.
    pub(crate) fn patience(&self) -> Option<Duration> {
        self.bar
            .as_ref()
            .map(|_| EVERY.saturating_sub(self.drawn.elapsed()))
    }

    /// Draws it, if it is time; the numbers are asked for only then.
    pub(crate) fn show(&mut self, numbers: impl FnOnce() -> Numbers) {
        let Some(bar) = &self.bar else { return };
        if self.drawn.elapsed() < EVERY {
            return;
        }
        self.drawn = Instant::now();
        if !takes() || !is_ours() {
            return;
        }
        let Numbers {
            running,
            done,
            failed,
            expected,
        } = numbers();
        if let Some(expected) = expected
            && bar.length() != Some(expected)
        {
            if bar.length().is_none() {
                bar.set_style(style("{wide_bar} {pos}/{len}  {msg}  {per_sec}  ETA {eta}"));
            }
            bar.set_length(expected.max(done));
        }
        bar.set_message(format!("{running} running, {done} done, {failed} failed"));
        bar.set_position(done);
    }

    /// Does something to the terminal without the bar in the way.
    pub(crate) fn aside<T>(&self, act: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) if takes() && is_ours() => bar.suspend(act),
            _ => act(),
        }
    }

    /// Takes it off the terminal before we are stopped: then the line is the shell's. It is drawn again when we go on in the
    /// foreground.
    pub(crate) fn clear(&self) {
        if self.bar.is_some() && takes() && is_ours() {
            let _ = stderr().write_all(b"\r\x1b[2K");
        }
    }

    pub(crate) fn end(&self) {
        let Some(bar) = &self.bar else { return };
        if !takes() || !is_ours() {
            // Nor is it drawn when it is dropped.
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        bar.finish_and_clear();
    }
}

/// Whether the terminal takes something at once: one that nobody drains must not hold us up.
fn takes() -> bool {
    let stderr = stderr();
    let mut end = [PollFd::new(&stderr, PollFlags::OUT)];
    poll(&mut end, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// Whether we are in the foreground of the terminal. In the background it is others' who type and write there; `stty tostop` would
/// stop us. Where that cannot be asked (the terminal is not the one that controls us) there is no background.
fn is_ours() -> bool {
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
