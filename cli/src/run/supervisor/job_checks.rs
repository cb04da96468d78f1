//! The schedule of the checks of running jobs.

use std::time::{Duration, Instant};

use crate::run::stopped::Stopped;

const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// For `--stopped foreground`, where a user waits for the terminal.
const TERMINAL_CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// The time of the next check.
pub(crate) struct JobChecks {
    next: Instant,
    interval: Duration,
}

impl JobChecks {
    pub(crate) fn new(stopped: Stopped) -> Self {
        let interval = match stopped {
            Stopped::Report | Stopped::Fail => CHECK_INTERVAL,
            Stopped::Foreground => TERMINAL_CHECK_INTERVAL,
        };
        Self {
            next: Instant::now() + interval,
            interval,
        }
    }

    pub(crate) fn check_within(&mut self, time: Duration) {
        self.next = self.next.min(Instant::now() + time);
    }

    pub(crate) fn wait_timeout(&self) -> Duration {
        self.next.saturating_duration_since(Instant::now())
    }

    pub(crate) fn is_due(&mut self) -> bool {
        let now = Instant::now();
        let due = self.next <= now;
        if due {
            self.next = now + self.interval;
        }
        due
    }
}
