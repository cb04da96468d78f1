//! The state of the run, of the connection, and of the leases.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::{BEAT_MAX, CHECK_MAX, HOLD_MAX, HOLD_PAUSE, Progress, Thread};
use crate::code;
use crate::failure::Failure;
use crate::queue::connection::Link;
use crate::queue::error::QueueError;
use crate::queue::model::beat::Beat;
use crate::run::schedule::event_queue::Event;

impl Thread {
    /// Looks after what no message reports.
    pub(super) fn look(&mut self) {
        let refusal = self.parts.shared.refusal.borrow().clone();
        if refusal != self.refusal {
            match &refusal {
                Some(reason) => self.notice(format!(
                    "the server does not store results: {reason}; they wait, and are published again\n"
                )),
                None => self.notice("the server stores results again\n".into()),
            }
            self.refusal = refusal;
        }
        // A worker needs all of its permissions. It would wait for confirmations in vain.
        if let (Some(denied), false) = (self.parts.shared.connection.denied(), self.denied) {
            self.denied = true;
            self.end_with(QueueError::Denied(denied).into());
        }
        let now = Instant::now();
        // Jobs that wait here start no more when their leases may be over: the server has given
        // them to another worker.
        if self.lost_since.is_some() && now > self.renewed + self.parts.spec.lease() * 2 / 3 {
            self.parts.admission.drop_unstarted();
        }
        self.look_at_hold(now);
        // With jobs of its own here the run is not complete, but it may be cancelled or deleted.
        let due = match self.unfinished {
            _ if self.check_now => now,
            0 => self.next_check,
            _ => self.last_check + BEAT_MAX,
        };
        if self.takes_jobs() && self.check.is_empty() && now >= due {
            self.last_check = now;
            self.check_now = false;
            let shared = Rc::clone(&self.parts.shared);
            self.check.push(Box::pin(async move {
                let connection = &shared.connection;
                let records = connection.stream_state(&shared.names.records).await?;
                // An error if it was deleted.
                connection.consumer_state().await?;
                Ok(Progress {
                    with_result: records.subjects,
                    cancelled: connection.is_cancelled().await?,
                })
            }));
        }
    }

    /// Gives back jobs that a condition of this machine holds up: another one may start them.
    pub(super) fn look_at_hold(&mut self, now: Instant) {
        let admission = &self.parts.admission;
        if admission.hold_reason().is_none() {
            self.hold_since = None;
            return;
        }
        let since = *self.hold_since.get_or_insert(now);
        if now > since + HOLD_MAX && self.unfinished > admission.active() {
            admission.drop_unstarted();
            self.hold_since = None;
            self.probing = true;
            self.next_request = now + HOLD_PAUSE;
        }
    }

    pub(super) fn checked(&mut self, progress: Result<Progress, QueueError>) {
        self.next_check = Instant::now() + self.check_pause;
        self.check_pause = (self.check_pause * 3 / 2).min(CHECK_MAX);
        match progress {
            Ok(progress) if progress.cancelled => self.cancel(),
            Ok(progress) if progress.with_result >= self.parts.spec.jobs => self.end_input(),
            Ok(_) => {}
            Err(error @ QueueError::NoRun { .. }) => {
                self.deleted = true;
                self.end_with(Failure::from(error));
            }
            // It is asked again.
            Err(error) => {
                let error = error.to_string();
                if self.trouble.as_ref() != Some(&error) {
                    self.notice(format!("{error}\n"));
                    self.trouble = Some(error);
                }
            }
        }
    }

    pub(super) fn cancel(&mut self) {
        if self.cancelled {
            return;
        }
        self.cancelled = true;
        let run = &self.parts.shared.connection.run;
        let cause = format!("the run {run} was cancelled");
        self.end_with(Failure::new(code::SOME_FAILED, cause));
    }

    /// Ends running jobs, and then the run on this worker.
    pub(super) fn end_with(&mut self, failure: Failure) {
        self.parts.event_queue.push(Event::EndNow(failure));
        self.end_input();
    }

    pub(super) fn end_input(&mut self) {
        if std::mem::replace(&mut self.input_ended, true) {
            return;
        }
        self.pulls.stop();
        self.parts.admission.end_input();
        self.parts.event_queue.set_readable();
    }

    pub(super) async fn link_changed(&mut self, link: Link) {
        let before = std::mem::replace(&mut self.link, link);
        let server = self.parts.shared.connection.server.clone();
        if before.up && (!link.up || before.connections != link.connections) {
            // Requests for jobs ended with the connection.
            self.pulls.abort();
        }
        match (before.up, link.up) {
            (true, false) => {
                self.lost_since = Some(Instant::now());
                self.parts.admission.set_paused(true);
                self.notice(format!(
                    "the connection with {server} is lost: running jobs go on, no more start\n"
                ));
            }
            (false, true) => {
                let since = self.lost_since.take();
                self.outage = since.map_or(Duration::ZERO, |since| since.elapsed());
                self.notice(format!("connected with {server} again\n"));
            }
            _ => {}
        }
        if link.up && before != link {
            self.pulls.abort();
            self.renew().await;
            self.resume();
        }
    }

    /// Renews all leases.
    pub(super) async fn renew(&mut self) {
        if !self.link.up {
            return;
        }
        let client = &self.parts.shared.connection.client;
        for held in self.held.values() {
            let _ = client.publish(held.reply.clone(), "+WPI".into()).await;
        }
        self.renewed = Instant::now();
    }

    pub(super) fn beat_period(&self) -> Duration {
        (self.parts.spec.lease() / 3).clamp(Duration::from_secs(1), BEAT_MAX)
    }

    pub(super) async fn beat(&mut self, ended: bool) {
        if !self.link.up || self.deleted {
            return;
        }
        let beat = Beat {
            worker: self.parts.worker.clone(),
            host: self.parts.host.clone(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").into(),
            capacity: self.parts.admission.limit(),
            jobs: self.unfinished,
            waiting: self.publications.len(),
            done: self.done,
            failed: self.failed,
            every_seconds: self.beat_period().as_secs_f64(),
            ended,
        };
        let subject = self.parts.shared.names.worker_subject(&self.parts.worker);
        let json = serde_json::to_vec(&beat).unwrap_or_default();
        let client = &self.parts.shared.connection.client;
        let _ = client.publish(subject, json.into()).await;
    }
}
