//! What the kernel does not report about jobs by itself, and is looked for about once a second: whether one is stopped, and
//! whether one could not be signalled.

use std::time::{Duration, Instant};

use clap::ValueEnum;
use exitring::SignalError;

use crate::run::supervisor::{Conductor, Running};
use crate::signal_name::name_or_number;

const EVERY: Duration = Duration::from_secs(1);
/// Where a person waits for the terminal.
const EVERY_FOR_TERMINAL: Duration = Duration::from_millis(50);
/// What is stopped for less may be so for a moment only.
const MOMENT: Duration = Duration::from_millis(500);

/// What is done about a job that is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Stopped {
    /// It is reported, once, and waited for
    Report,
    /// It is ended: SIGTERM, after --grace SIGKILL; it has failed, and its record says why
    Fail,
    /// With -j 1: one that wants the terminal gets it, until it ends or is stopped; others are reported
    Foreground,
}

/// When the next look is.
pub(crate) struct Looks {
    next: Instant,
    every: Duration,
}

impl Looks {
    pub(crate) fn new(stopped: Stopped) -> Self {
        let every = match stopped {
            Stopped::Report | Stopped::Fail => EVERY,
            Stopped::Foreground => EVERY_FOR_TERMINAL,
        };
        Self {
            next: Instant::now() + every,
            every,
        }
    }

    pub(crate) fn look_within(&mut self, time: Duration) {
        self.next = self.next.min(Instant::now() + time);
    }

    pub(crate) fn patience(&self) -> Duration {
        self.next.saturating_duration_since(Instant::now())
    }

    fn is_due(&mut self) -> bool {
        let now = Instant::now();
        let due = self.next <= now;
        if due {
            self.next = now + self.every;
        }
        due
    }
}

/// What was seen of a job that runs.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// At the last look it was stopped by this signal, and at all looks since then.
    stopped: Option<(i32, Instant)>,
    pub(in crate::run) reported: bool,
    /// It could not be given the terminal.
    pub(in crate::run) no_terminal: bool,
    denied: bool,
    /// It is being ended because it was stopped by this signal.
    pub(crate) ended_for: Option<i32>,
}

impl Conductor {
    pub(in crate::run) fn look_at_jobs(&mut self) {
        if !self.looks.is_due() {
            return;
        }
        self.look_for_terminal();
        let mut texts = Vec::new();
        let mut left = Vec::new();
        for (&number, running) in &mut self.running {
            if running.exit.is_some() {
                continue;
            }
            if running.is_denied() {
                match self.ending.kills() {
                    true => left.push(number),
                    false => texts.extend(running.report_denied()),
                }
            } else if !self.ending.has_told()
                && let Some(signal) = running.find_stopped()
            {
                texts.push(running.report_stopped(signal, self.stopped));
                if self.stopped == Stopped::Fail {
                    running.seen.ended_for = Some(signal);
                    // If the watcher has ended, that shows elsewhere.
                    let _ = running.child.deadline(Duration::ZERO, self.ending.grace());
                }
            }
        }
        for text in texts {
            self.say(&text);
        }
        for number in left {
            self.leave(number, DENIED);
        }
    }
}

/// Why a job cannot be ended.
const DENIED: &str = "it runs as another user and may not be signalled (EPERM)";

impl Running {
    /// Whether a signal that was to end it, or what is left of its group, could not be sent.
    pub(in crate::run) fn is_denied(&self) -> bool {
        matches!(self.child.deadline_error(), Some(SignalError::Denied))
    }

    /// That it cannot be ended, if that was not reported.
    fn report_denied(&mut self) -> Option<String> {
        let first = !std::mem::replace(&mut self.seen.denied, true);
        let (job, pid) = (self.job.number, self.child.pid());
        first.then(|| {
            format!(
                "job {job} (process {pid}) cannot be ended: {DENIED}; exitring waits for it: end it as that user, \
                 as with `sudo kill -- -{pid}`, or interrupt exitring twice, a second apart, to leave it running\n"
            )
        })
    }

    /// The signal that has stopped it, once, unless it may be a moment's stop.
    fn find_stopped(&mut self) -> Option<i32> {
        let signal = self.child.stopped();
        let before = self.seen.stopped;
        self.seen.stopped = signal.map(|signal| match before {
            Some((before, since)) if before == signal => (signal, since),
            _ => (signal, Instant::now()),
        });
        let (signal, since) = self.seen.stopped?;
        let certain = wants_terminal(signal) || since.elapsed() >= MOMENT;
        let found = certain && !self.seen.reported;
        self.seen.reported |= found;
        found.then_some(signal)
    }

    fn report_stopped(&self, signal: i32, stopped: Stopped) -> String {
        let (job, pid) = (self.job.number, self.child.pid());
        let name = name_or_number(signal);
        let why = match wants_terminal(signal) {
            true => ": it wants the terminal, which no job has",
            false => "",
        };
        let what = match (stopped, wants_terminal(signal)) {
            (Stopped::Fail, _) => "it is ended (--stopped fail)".into(),
            (_, true) => format!(
                "give it what it asks for otherwise (a key, a file, an option not to ask); kill -- -{pid} ends it, Ctrl-C all; \
                 --stopped fail ends such jobs, and with -j 1 --stopped foreground gives them the terminal"
            ),
            (_, false) => {
                format!("kill -CONT -- -{pid} has it go on; --stopped fail ends such jobs")
            }
        };
        format!("job {job} is stopped ({name}){why}: {what}\n")
    }
}

/// Whether the signal stops what reads from, or sets up, a terminal that it does not have.
pub(in crate::run) fn wants_terminal(signal: i32) -> bool {
    matches!(signal, libc::SIGTTIN | libc::SIGTTOU)
}

/// Why a job was ended that was stopped.
pub(in crate::run) fn stopped_by(signal: i32) -> String {
    let why = match wants_terminal(signal) {
        true => ": it wanted the terminal",
        false => "",
    };
    format!("stopped by {}{why}", name_or_number(signal))
}
