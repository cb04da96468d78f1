//! The supervisor's reaction to signals, and the early end of a run.

use std::time::Duration;

use super::Supervisor;
use super::shutdown::Stop;
use crate::dispositions;
use crate::duration;
use crate::failure::Failure;
use crate::run::report::record::Record;
use crate::run::signals::SignalAction;
use crate::signal_name::name_or_number;

/// How soon after signals were sent the supervisor checks which of them were refused.
const CHECK_SOON: Duration = Duration::from_millis(50);

impl Supervisor {
    pub(super) fn handle_signals(&mut self) {
        for (signal, action) in self.signals.take_pending() {
            match action {
                SignalAction::Shutdown { at_once } => self.request_shutdown(signal, at_once),
                SignalAction::MoreJobs if self.foreground.is_some() => {
                    let name = name_or_number(signal);
                    self.report(&format!(
                        "{name} refused: with --stopped foreground only one job at a time can have the \
                         terminal; use --stopped report for more\n"
                    ));
                }
                SignalAction::MoreJobs => {
                    self.report_job_limit(signal, self.spawner.admission.raise_limit())
                }
                SignalAction::FewerJobs => {
                    self.report_job_limit(signal, self.spawner.admission.lower_limit())
                }
                SignalAction::Stop => {
                    self.stop_foreground_job();
                    self.progress.clear();
                    if let Some(watch) = &mut self.watch {
                        watch.leave();
                    }
                    // If that fails, this process continues, and nothing is lost.
                    let _ = dispositions::raise_default(signal);
                }
                SignalAction::Unknown => {
                    if self.reported_signals.insert(signal) {
                        let name = name_or_number(signal);
                        self.report(&format!("{name} ignored: it has no meaning here\n"));
                    }
                }
                SignalAction::Ignore => {}
            }
        }
    }

    fn report_job_limit(&mut self, signal: i32, capacity: usize) {
        let name = name_or_number(signal);
        self.report(&format!(
            "{name}: at most {capacity} jobs run at a time from now on\n"
        ));
    }

    pub(super) fn request_shutdown(&mut self, signal: i32, at_once: bool) {
        let Some(stop) = self.shutdown.request(signal, at_once) else {
            return;
        };
        let inside = self.spawner.admission.active();
        if let Some(observers) = &mut self.observers {
            observers.interrupted(signal);
        }
        self.stop(stop, None);
        let why = match signal {
            libc::SIGINT | libc::SIGTERM | libc::SIGHUP | libc::SIGQUIT => "interrupted".into(),
            _ => format!("interrupted by {}", name_or_number(signal)),
        };
        if inside > 0 {
            let grace = duration::show(self.shutdown.grace());
            let (jobs, get, are) = match inside {
                1 => ("running job", "gets", "is"),
                _ => ("running jobs", "get", "are"),
            };
            self.report(&match stop {
                Stop::Soon | Stop::Now => format!(
                    "{why}: {inside} {jobs} {get} SIGTERM, and SIGKILL after {grace}; a second \
                     request, at least a second from now, kills them at once\n"
                ),
                Stop::Kill => format!(
                    "{why}: {inside} {jobs} {are} killed; another request, at least a second from \
                     now, leaves running what has not ended by then\n"
                ),
                Stop::Leave => {
                    format!("{why} again: {inside} {jobs} {are} not waited for any more\n")
                }
            });
        }
        while let Some(pending) = self.pending_ends.pop(true) {
            self.finish_pending(pending);
        }
        if stop == Stop::Leave {
            self.leave_all_running();
        }
    }

    /// Starts no more jobs, and treats running jobs as `stop` says.
    pub(super) fn stop(&mut self, stop: Stop, failure: Option<Failure>) {
        self.spawner.admission.close();
        // Jobs that are being started are signalled when their event arrives.
        self.spawner.event_queue.wake_on_start();
        if self.shutdown.escalate(stop) {
            for running in self
                .running
                .values_mut()
                .filter(|running| running.can_be_signalled())
            {
                running.end_with_run(&self.shutdown);
            }
            self.job_checks.check_within(CHECK_SOON);
        }
        if let Some(text) = failure.and_then(|failure| self.shutdown.fail(failure)) {
            self.report(&text);
        }
    }

    /// Starts no more jobs, and waits for none. Those that run are recorded before the end.
    pub(super) fn watcher_failed(&mut self, failure: Failure) {
        self.stop(Stop::Soon, None);
        if let Some(text) = self.shutdown.watcher_failed(failure) {
            self.report(&text);
        }
    }

    /// Leaves all running jobs, and records that.
    fn leave_all_running(&mut self) {
        self.record_left("it has not ended after SIGKILL");
        // A job may still be in its start, which may never complete.
        self.shutdown.abandon();
    }

    /// Records the jobs that run after the run has stopped to wait for them. Their starts may have
    /// been reported since.
    pub(super) fn record_abandoned(&mut self) {
        if self.shutdown.is_abandoned() {
            self.record_left("exitring cannot wait for its end any more");
        }
    }

    fn record_left(&mut self, why: &str) {
        let mut left: Vec<u64> = self.running.keys().copied().collect();
        left.sort_unstable();
        for number in left {
            self.leave_running(number, why);
        }
    }

    /// Stops waiting for a running job. The job is not done, so `--resume` runs it again.
    pub(super) fn leave_running(&mut self, number: u64, why: &str) {
        self.end_grant(number);
        // The process of the job has ended, and other processes of its group have not. The record
        // says how the process ended.
        if self
            .running
            .get(&number)
            .is_some_and(|running| running.exit.is_some())
        {
            return self.end_job(number);
        }
        let Some(running) = self.running.remove(&number) else {
            return;
        };
        let pid = running.child.pid();
        self.report(&format!(
            "job {number} (process {pid}) is left running: {why}\n"
        ));
        let reason = format!("left running as process {pid}: {why}");
        let record = Record::of_left_running(&running.job, running.start_time, reason);
        // The record comes after what the job has written so far.
        if self
            .pipes
            .release_job(number, running.job.attempt, &mut self.std_streams)
        {
            self.report_closed_pipes();
        }
        let output = self.take_output(&running.job);
        self.finish_job(&running.job, &record, output);
        self.spawner.admission.release(Some(running.job.slot));
    }
}
