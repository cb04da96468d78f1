//! The supervisor: the thread that observes jobs until they end.
//!
//! It owns all state of running jobs.
//!
//! [`Supervisor`] and its loop are here. Its methods are in files of their own, each with one
//! `impl Supervisor`: `events`, `completion`, `conditions`, `interrupts`, `check_jobs`, `foreground_jobs`,
//! `leftovers`, `observation`, `report_case`, `report_slow_jobs`, `watching` and `writer`. These import [`Supervisor`] from here. The types of its fields import nothing from
//! here: [`shutdown`], [`halt`], [`pending_ends`], [`grace_groups`], [`job_checks`], [`foreground`], [`slow_jobs`] and
//! `running_job`.

mod check_jobs;
mod completion;
mod conditions;
mod events;
pub(crate) mod foreground;
mod foreground_jobs;
pub(crate) mod grace_groups;
pub(crate) mod halt;
mod interrupts;
pub(crate) mod job_checks;
mod leftovers;
mod observation;
pub(crate) mod pending_ends;
mod report_case;
mod report_slow_jobs;
mod running_job;
pub(crate) mod shutdown;
pub(crate) mod slow_jobs;
mod watching;
mod writer;

use std::collections::{HashMap, HashSet, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use self::foreground::Foreground;
use self::grace_groups::GraceGroups;
use self::halt::Halt;
use self::job_checks::JobChecks;
use self::pending_ends::PendingEnds;
use self::running_job::{DrainingJob, RunningJob};
use self::shutdown::Shutdown;
use self::slow_jobs::SlowJobs;
use super::input::reader::ListCounts;
use super::output::pipes::Pipes;
use super::output::std_streams::StdStreams;
use super::report::joblog::JobLog;
use super::report::junit::JunitReport;
use super::report::observers::Observers;
use super::report::progress::Progress;
use super::report::summary::Summary;
use super::schedule::retry_delay::RetryDelay;
use super::schedule::spawner::Spawner;
use super::signals::Signals;
use super::stopped::Stopped;
use super::token::Token;
use super::watch::display::Display;
use crate::failure::Failure;

/// How soon the supervisor retries a write after a reader did not accept it.
const WRITE_RETRY: Duration = Duration::from_millis(20);
const EVENTS_AT_ONCE: usize = 256;

/// The state of a run.
pub(crate) struct Supervisor {
    pub(crate) spawner: Arc<Spawner>,
    pub(crate) signals: Signals,
    pub(crate) counts: Arc<ListCounts>,
    pub(crate) pipes: Pipes,
    /// The queue that the jobs come from, and that gets their results.
    #[cfg(feature = "queue")]
    pub(crate) queue: Option<crate::queue::worker::link::QueueLink>,
    pub(crate) joblog: Option<JobLog>,
    /// What collects every attempt, if anything does.
    pub(crate) observers: Option<Box<Observers>>,
    pub(crate) junit: Option<JunitReport>,
    /// Whether standard output gets a record of each finished job.
    pub(crate) records: bool,
    /// Whether a job fails that leaves processes behind.
    pub(crate) fail_leaky: bool,
    pub(crate) retries: u32,
    pub(crate) retry_delay: Option<RetryDelay>,
    /// A job that succeeds after a failed attempt counts as failed.
    pub(crate) fail_flaky: bool,
    /// With `--slow-after`.
    pub(crate) slow_jobs: Option<SlowJobs>,
    pub(crate) halt: Option<Halt>,
    pub(crate) std_streams: StdStreams,
    pub(crate) progress: Progress,
    /// The full-screen view, which takes the place of the progress bar.
    pub(crate) watch: Option<Box<Display>>,
    pub(crate) summary: Summary,
    pub(crate) shutdown: Shutdown,
    pub(crate) stopped: Stopped,
    /// The terminal, if jobs can have it.
    pub(crate) foreground: Option<Foreground>,
    pub(crate) running: HashMap<u64, RunningJob>,
    pub(crate) grace_groups: GraceGroups,
    /// Jobs that have ended, and whose result is decided soon.
    pub(crate) pending_ends: PendingEnds,
    pub(crate) job_checks: JobChecks,
    /// Jobs that have ended and left their pipes open, in the order of their ends.
    pub(crate) draining: VecDeque<DrainingJob>,
    /// Output whose turn has come was not forwarded yet.
    pub(crate) more_output: bool,
    pub(crate) capacity_reported: bool,
    pub(crate) hold_reported: bool,
    /// The closing of pipes of background processes was reported.
    pub(crate) closed_pipes_reported: bool,
    /// Signals without a meaning that were reported.
    pub(crate) reported_signals: HashSet<i32>,
}

impl Supervisor {
    /// Runs until the last job has ended. Returns the pipes that may still have a writer.
    pub(crate) fn supervise(&mut self) -> Vec<OwnedFd> {
        let mut ready = Vec::with_capacity(EVENTS_AT_ONCE);
        let mut events = Vec::new();
        while !self.spawner.admission.is_over() && !self.shutdown.is_abandoned() {
            self.wait(&mut ready);
            for event in ready.drain(..) {
                let flags = event.flags;
                let hung_up = !flags.contains(epoll::EventFlags::IN);
                match Token::from_data(event.data) {
                    Token::Events => self.spawner.event_queue.clear_readable(),
                    Token::Signal => self.handle_signals(),
                    Token::Exits => self.handle_exits(&mut events),
                    Token::Jobserver => self.spawner.admission.take_tokens(),
                    Token::Pressure(index) => self.handle_pressure(index, flags),
                    Token::Output(stream_id) => self.handle_output(stream_id, hung_up, &mut events),
                }
                if self.std_streams.is_large() {
                    self.flush();
                }
            }
            self.handle_events(&mut events);
            self.break_line();
            self.check_groups();
            self.end_drained_jobs();
            while let Some(pending) = self.pending_ends.pop(false) {
                self.finish_pending(pending);
            }
            self.check_jobs();
            self.report_slow_jobs();
            self.forward_in_order();
            self.flush();
            self.flush_observers();
            self.update_progress();
            self.update_watch();
        }
        self.reclaim_terminal();
        // Events that arrived before the end.
        self.handle_events(&mut events);
        self.record_abandoned();
        while let Some(pending) = self.pending_ends.pop(true) {
            self.finish_pending(pending);
        }
        self.flush_observers();
        let open = self.pipes.finish(&mut self.std_streams);
        // What waits for its turn comes after what waits for the end of the view, and does not wait
        // for that itself.
        self.end_watch();
        self.forward_remaining();
        self.flush_remaining();
        self.report_dropped_records();
        self.progress.finish();
        open
    }

    fn wait(&mut self, ready: &mut Vec<epoll::Event>) {
        let drained = self
            .draining
            .front()
            .filter(|_| !self.pipes.has_paused())
            .map(|draining| draining.until.saturating_duration_since(Instant::now()));
        let write_retry = (!self.std_streams.is_empty()).then_some(WRITE_RETRY);
        let more_output = self.more_output.then_some(Duration::ZERO);
        let timeouts = [
            self.progress
                .wait_timeout(self.std_streams.holds_messages()),
            self.watch.as_ref().map(|watch| watch.wait_timeout()),
            drained,
            write_retry,
            more_output,
            self.pipes.wait_timeout(),
            self.grace_groups.wait_timeout(),
            // Jobs may be running whose start is not known here yet.
            Some(self.job_checks.wait_timeout()),
            self.pending_ends.wait_timeout(),
            self.slow_jobs.as_ref().and_then(SlowJobs::wait_timeout),
        ];
        let timeout = timeouts.into_iter().flatten().min();
        // The conversion cannot fail, because each timeout is short.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match epoll::wait(
            &self.spawner.poll,
            rustix::buffer::spare_capacity(ready),
            timeout.as_ref(),
        ) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => {
                self.watcher_failed(Failure::resource(format!("epoll_wait failed: {error}")))
            }
        }
    }
}
