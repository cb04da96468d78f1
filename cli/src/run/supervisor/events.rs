//! The supervisor's handlers of events: started jobs, exits, and output.

use std::rc::Rc;
use std::time::{Duration, Instant};

use exitring::TryRecvError;

use super::Supervisor;
use super::running_job::{CheckState, DrainingJob, RunningJob};
use super::shutdown::Stop;
use crate::failure::Failure;
use crate::run::output_tail::AttemptTail;
use crate::run::report::record::Record;
use crate::run::schedule::event_queue::{Event, StartedJob};
use crate::run::stream_id::StreamId;

/// How long processes that a job left running may keep writing to its pipes.
const DRAIN_TIME: Duration = Duration::from_millis(100);

impl Supervisor {
    pub(super) fn handle_events(&mut self, events: &mut Vec<Event>) {
        self.spawner.event_queue.take(events);
        for event in events.drain(..) {
            match event {
                Event::Started(started) => self.add_running(*started),
                Event::NotStarted {
                    job,
                    start_time,
                    error,
                } => {
                    self.report(&format!(
                        "job {} was not started: {}\n",
                        job.number, error.reason
                    ));
                    self.spawner.destination.remove_output(job.number);
                    let record = Record::of_start_error(&job, start_time, error);
                    self.finish_job(&job, &record, AttemptTail::default());
                    self.spawner.admission.release(Some(job.slot));
                }
                #[cfg(feature = "queue")]
                Event::GivenUp { job, why } => {
                    self.report(&format!("job {} is {why}\n", job.number));
                    let record = Record::of_given_up(&job, crate::run::job::StartTime::now(), why);
                    self.finish_job(&job, &record, AttemptTail::default());
                    self.spawner.admission.resolve_deferred(None);
                }
                Event::StartDropped => self.spawner.admission.release(None),
                Event::CapacityReduced { capacity, reason } => {
                    self.report_capacity(capacity, &reason)
                }
                Event::CannotContinue(failure) => self.stop(Stop::Soon, Some(failure)),
                Event::CannotReadPipes(failure) => self.stop(Stop::Now, Some(failure)),
                #[cfg(feature = "queue")]
                Event::EndNow(failure) => self.stop(Stop::Now, Some(failure)),
                Event::WatcherFailed(failure) => self.watcher_failed(failure),
                Event::Notice(text) => self.report(&text),
                // The number of jobs is known now.
                Event::ListRead => self.halt_if_reached(0),
            }
        }
    }

    fn add_running(&mut self, started: StartedJob) {
        let StartedJob {
            job,
            start_time,
            child,
            pipes,
        } = started;
        let tag = job.tag().map(Rc::from);
        if self.joblog.is_some() {
            self.std_streams.begin_record(job.number);
        }
        self.pipes.add(job.number, job.attempt, pipes, tag);
        let slow_jobs = self.slow_jobs.as_mut();
        let slow_due = slow_jobs.and_then(|slow_jobs| slow_jobs.add(start_time.instant));
        let mut running = RunningJob {
            job,
            start_time,
            child,
            exit: None,
            in_grace: false,
            was_in_grace: false,
            check: CheckState::default(),
            slow_due,
            ended_by_run: None,
        };
        // The job was being started when the other jobs were signalled.
        running.end_with_run(&self.shutdown);
        self.running.insert(running.job.number, running);
    }

    pub(super) fn handle_exits(&mut self, events: &mut Vec<Event>) {
        loop {
            let tagged = match self.spawner.exits.try_recv() {
                Ok(Some(tagged)) => tagged,
                Ok(None) | Err(TryRecvError::Empty) => return,
                Err(error) => return self.watcher_failed(Failure::resource(error.to_string())),
            };
            // The job is in the event queue: it was queued before its exit could be reported.
            if !self.running.contains_key(&tagged.tag) {
                self.handle_events(events);
            }
            let Some(running) = self.running.get_mut(&tagged.tag) else {
                continue;
            };
            running.in_grace = tagged.exit.by_deadline() && running.child.group_in_grace();
            running.was_in_grace = running.in_grace;
            running.exit = Some(tagged.exit);
            match running.in_grace {
                true => self.grace_groups.add(tagged.tag),
                false => self.end_or_drain(tagged.tag),
            }
        }
    }

    /// Continues with a job whose process has ended, and with it the grace of its group.
    fn end_or_drain(&mut self, number: u64) {
        self.end_grant(number);
        self.kill_leftovers(number);
        let Some(running) = self.running.get(&number) else {
            return;
        };
        let attempt = running.job.attempt;
        if !self.pipes.has_open(number, attempt) {
            return self.end_job(number);
        }
        self.draining.push_back(DrainingJob {
            until: Instant::now() + DRAIN_TIME,
            job: number,
            attempt,
        });
    }

    /// Continues with jobs whose group has ended. Until then such a job keeps its permit, and its
    /// output is forwarded.
    pub(super) fn check_groups(&mut self) {
        for number in self.grace_groups.take_ended(&self.running) {
            if let Some(running) = self.running.get_mut(&number) {
                running.in_grace = false;
                self.end_or_drain(number);
            }
        }
    }

    /// `hung_up`: there is no data, and no writer is left.
    pub(super) fn handle_output(
        &mut self,
        stream_id: StreamId,
        hung_up: bool,
        events: &mut Vec<Event>,
    ) {
        if !self.pipes.has(stream_id) {
            self.handle_events(events);
        }
        self.pipes
            .read_ready(stream_id, hung_up, &mut self.std_streams);
        if self.running.get(&stream_id.job).is_some_and(|running| {
            running.exit.is_some()
                && !running.in_grace
                && !self.pipes.has_open(stream_id.job, running.job.attempt)
        }) {
            self.end_job(stream_id.job);
        }
    }

    /// Ends a line that other streams have waited for too long.
    pub(super) fn break_line(&mut self) {
        if let Some(job) = self.pipes.break_line(&mut self.std_streams) {
            self.report(&format!(
                "job {job}: a line longer than 1 MiB was split, because the output of other jobs had \
                 waited too long for its end\n"
            ));
        }
        // Streams that waited for the end of a line, this one or another, were watched again.
        if let Some(failure) = self.pipes.take_watch_failure() {
            self.stop(Stop::Now, Some(failure));
        }
    }

    /// Completes jobs whose process ended a while ago and whose pipes are still open.
    pub(super) fn end_drained_jobs(&mut self) {
        if self.pipes.has_paused() {
            return;
        }
        let now = Instant::now();
        while let Some(&DrainingJob {
            job,
            attempt,
            until,
        }) = self.draining.front()
        {
            if until > now {
                break;
            }
            self.draining.pop_front();
            // The job may be complete, and even run again.
            let still =
                |running: &RunningJob| running.exit.is_some() && running.job.attempt == attempt;
            if self.running.get(&job).is_some_and(still) {
                self.end_job(job);
            }
        }
    }
}
