//! The periodic checks of running jobs: whether a job is stopped, and whether a signal to it was
//! refused.
//!
//! The kernel does not report either.

use std::time::{Duration, Instant};

use exitring::SignalError;

use super::Supervisor;
use super::running_job::RunningJob;
use crate::run::stopped::{Stopped, needs_terminal};
use crate::signal_name::name_or_number;

/// How long a job must be stopped before it is reported. A shorter stop may be intended.
const STOP_SETTLE_TIME: Duration = Duration::from_millis(500);

impl Supervisor {
    pub(super) fn check_jobs(&mut self) {
        if !self.job_checks.is_due() {
            return;
        }
        self.check_terminal();
        self.end_youngest_if_short();
        self.report_hold();
        let mut texts = Vec::new();
        let mut left = Vec::new();
        for (&number, running) in &mut self.running {
            if running.exit.is_some() {
                continue;
            }
            if running.is_denied() {
                match self.shutdown.is_killing() {
                    true => left.push(number),
                    false => texts.extend(running.report_denied()),
                }
            } else if !self.shutdown.has_signalled_jobs()
                && let Some(signal) = running.find_stopped()
            {
                texts.push(running.report_stopped(signal, self.stopped));
                if self.stopped == Stopped::Fail {
                    running.check.ended_for_stop = Some(signal);
                    // An error of the watcher is reported elsewhere.
                    let _ = running
                        .child
                        .deadline(Duration::ZERO, self.shutdown.grace());
                }
            }
        }
        for text in texts {
            self.report(&text);
        }
        for number in left {
            self.leave_running(number, DENIED);
        }
    }
}

/// Why a job cannot be ended.
const DENIED: &str = "it runs as another user and may not be signalled (EPERM)";

impl RunningJob {
    /// Whether a signal that was to end the job, or the rest of its group, was refused.
    pub(super) fn is_denied(&self) -> bool {
        matches!(self.child.deadline_error(), Some(SignalError::Denied))
    }

    /// The message that the job cannot be ended, once.
    fn report_denied(&mut self) -> Option<String> {
        let first = !std::mem::replace(&mut self.check.denied_reported, true);
        let (job, pid) = (self.job.number, self.child.pid());
        first.then(|| {
            format!(
                "job {job} (process {pid}) cannot be ended: {DENIED}; exitring waits for it: end it as \
                 that user, for example with `sudo kill -- -{pid}`, or interrupt exitring twice, a \
                 second apart, to leave it running\n"
            )
        })
    }

    /// The signal that has stopped the job, once, after it has lasted for `STOP_SETTLE_TIME`.
    fn find_stopped(&mut self) -> Option<i32> {
        let signal = self.child.stopped();
        let before = self.check.stopped;
        self.check.stopped = signal.map(|signal| match before {
            Some((before, since)) if before == signal => (signal, since),
            _ => (signal, Instant::now()),
        });
        let (signal, since) = self.check.stopped?;
        let certain = needs_terminal(signal) || since.elapsed() >= STOP_SETTLE_TIME;
        let found = certain && !self.check.reported;
        self.check.reported |= found;
        found.then_some(signal)
    }

    fn report_stopped(&self, signal: i32, stopped: Stopped) -> String {
        let (job, pid) = (self.job.number, self.child.pid());
        let name = name_or_number(signal);
        let why = match needs_terminal(signal) {
            true => ": it needs the terminal, which no job has",
            false => "",
        };
        let what = match (stopped, needs_terminal(signal)) {
            (Stopped::Fail, _) => "it is ended (--stopped fail)".into(),
            (_, true) => format!(
                "provide its input another way (a key, a file, an option that avoids the prompt); \
                 kill -- -{pid} ends it, Ctrl-C ends all jobs; --stopped fail ends such jobs, and \
                 with -j 1 --stopped foreground gives them the terminal"
            ),
            (_, false) => {
                format!("kill -CONT -- -{pid} continues it; --stopped fail ends such jobs")
            }
        };
        format!("job {job} is stopped ({name}){why}: {what}\n")
    }
}
