//! The supervisor's part in the conditions for starts: reports of pressure, the end of the youngest
//! job while memory is short (`--memfree`), and the message that nothing starts.

use std::time::{Duration, Instant};

use rustix::event::epoll;

use super::Supervisor;
use super::running_job::RunningJob;
use crate::size;

impl Supervisor {
    /// The kernel reports pressure, or the end of a trigger.
    pub(super) fn handle_pressure(&mut self, index: usize, flags: epoll::EventFlags) {
        let ended = flags.contains(epoll::EventFlags::ERR);
        if let (true, Some(Some(trigger))) = (ended, self.spawner.pressure_triggers.get(index)) {
            // It would be reported without end. The average is read from now on.
            let _ = epoll::delete(&self.spawner.poll, trigger);
        }
        self.spawner.admission.pressure_reported(index, !ended);
    }

    /// Ends the youngest job if less than half of the memory is free that a start needs.
    ///
    /// One at a time: the memory of the last one may not be free yet. The only job that runs is
    /// left alone, because it could never end otherwise.
    pub(super) fn end_youngest_if_short(&mut self) {
        let ends = |running: &RunningJob| running.check.put_back;
        // The process of some may have ended, and others of the group or the output have not.
        let alive = self.running.values().filter(|job| job.exit.is_none());
        if alive.count() < 2 || self.shutdown.is_stopping() || self.running.values().any(ends) {
            return;
        }
        let Some(available) = self.spawner.admission.memory_shortage() else {
            return;
        };
        let grace = self.shutdown.grace();
        let alive = self.running.values_mut().filter(|job| job.exit.is_none());
        let Some(youngest) = alive.max_by_key(|job| job.start_time.instant) else {
            return;
        };
        youngest.check.put_back = true;
        youngest.ended_by_run.get_or_insert_with(Instant::now);
        let number = youngest.job.number;
        // An error of the watcher is reported elsewhere.
        let _ = youngest.child.deadline(Duration::ZERO, grace);
        let available = size::show(available);
        self.report(&format!(
            "job {number} is ended and put back: {available} of memory are free, less than half of --memfree\n"
        ));
    }

    /// Reports once that no job runs because none may start.
    pub(super) fn report_hold(&mut self) {
        if self.hold_reported || self.spawner.admission.active() > 0 {
            return;
        }
        if let Some(reason) = self.spawner.admission.hold_reason() {
            self.hold_reported = true;
            self.report(&format!("waiting: {reason}\n"));
        }
    }
}
