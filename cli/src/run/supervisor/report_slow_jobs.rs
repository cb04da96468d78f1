//! The supervisor's reports of jobs that run for long.

use super::Supervisor;
use crate::duration;
use crate::run::report::summary::excerpt;

impl Supervisor {
    /// Reports running jobs that are slow.
    pub(super) fn report_slow_jobs(&mut self) {
        let Some(slow_jobs) = &mut self.slow_jobs else {
            return;
        };
        for (number, time) in slow_jobs.take_due(&mut self.running) {
            let Some(running) = self.running.get(&number) else {
                continue;
            };
            let command = running.job.command_text();
            let text = format!(
                "job {number} is slow, it has been running for {}: {}\n",
                duration::show(time),
                excerpt(&command)
            );
            self.report(&text);
        }
    }
}
