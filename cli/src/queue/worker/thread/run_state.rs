//! The state of the run, of the connection, and of the leases.

use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::{
    ABSENCE_MIN, CHECK_MAX, HEARTBEAT_INTERVAL_MAX, HOLD_MAX, HOLD_PAUSE, Held, NO_CONSUMER_MAX,
    Thread,
};
use crate::code;
use crate::duration;
use crate::failure::Failure;
use crate::queue::clock::since_boot;
use crate::queue::connection::{ANSWER_TIMEOUT, Link};
use crate::queue::error::QueueError;
use crate::queue::model::heartbeat::Heartbeat;
use crate::run::schedule::event_queue::Event;

/// How far the run is.
pub(super) struct Progress {
    with_result: u64,
    cancelled: bool,
    /// Jobs are acknowledged and have no result.
    lost_results: bool,
    /// How often the consumer was recreated.
    recreations: u64,
}

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
        if let Some(error) = self.parts.shared.missing_log.take()
            && !std::mem::replace(&mut self.log_reported, true)
        {
            self.notice(format!("{error}; {}", error.remedy()));
        }
        // A worker needs all of its permissions. It would wait for confirmations in vain.
        if let (Some(denied), false) = (self.parts.shared.connection.denied(), self.denied) {
            self.denied = true;
            self.end_with(QueueError::Denied(denied).into());
        }
        let now = Instant::now();
        self.pause_or_go_on();
        self.look_at_hold(now);
        self.look_at_absence(now);
        // With jobs of its own here the run is not complete, but it may be cancelled or deleted.
        let due = match self.unfinished {
            _ if self.check_now => now,
            0 => self.next_check,
            _ => self.last_check + HEARTBEAT_INTERVAL_MAX,
        };
        if self.takes_jobs() && self.check.is_empty() && now >= due {
            self.last_check = now;
            self.check_now = false;
            let shared = Rc::clone(&self.parts.shared);
            let spec = self.parts.spec.clone();
            self.check.push(Box::pin(async move {
                let connection = &shared.connection;
                // Errors if it was deleted.
                connection.is_there(&shared.id).await?;
                let lost_results = connection.has_lost_results(&spec).await?;
                let records = connection.records_state(&shared.id).await?;
                Ok(Progress {
                    with_result: records.subjects,
                    cancelled: connection.is_cancelled().await?,
                    lost_results,
                    recreations: connection.recreations().await?,
                })
            }));
        }
    }

    /// Ends a worker without a connection that has neither jobs nor results. A service manager starts
    /// it again, if that is wanted.
    fn look_at_absence(&mut self, now: Instant) {
        let time = (self.parts.spec.lease() * 10).max(ABSENCE_MIN);
        let long = self.lost_since.is_some_and(|since| now > since + time);
        let nothing = self.unfinished == 0 && self.publications.is_empty();
        if long && nothing && !self.input_ended {
            let error = QueueError::Connect {
                server: self.parts.shared.connection.server.clone(),
                reason: format!("it has been away for {}", duration::show(time)),
            };
            self.end_with(error.into());
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
        self.unchecked &= progress.is_err();
        let lost_before = self.lost_results;
        self.lost_results = progress.as_ref().is_ok_and(|it| it.lost_results);
        let has_none = matches!(progress, Err(QueueError::NoConsumer { .. }));
        let since = has_none.then(|| self.no_consumer_since.unwrap_or_else(Instant::now));
        self.no_consumer_since = since;
        let recreations = self.parts.recreations;
        match progress {
            Ok(progress) if progress.cancelled => self.cancel(),
            Ok(progress) if progress.with_result >= self.parts.spec.jobs => {
                // Nothing is left that could be on its way.
                self.pulls.abort();
                self.end_input();
            }
            Ok(progress) if progress.recreations != recreations => self.resume(),
            Ok(_) if self.lost_results && lost_before => {
                let run = self.parts.shared.connection.run.clone();
                self.end_with(QueueError::LostResults { run }.into());
            }
            Ok(_) if self.lost_results => self.next_check = Instant::now() + CHECK_MAX,
            Ok(_) => {}
            Err(error) if error.is_deleted() => {
                self.deleted = true;
                self.pulls.abort();
                self.end_with(Failure::from(error));
            }
            Err(error) if since.is_some_and(|since| since.elapsed() > NO_CONSUMER_MAX) => {
                self.end_with(Failure::from(error));
            }
            // It is asked again.
            Err(error) => {
                self.check_now |= self.unchecked;
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
        self.pulls.abort();
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

    pub(super) fn link_changed(&mut self, link: Link) {
        let before = std::mem::replace(&mut self.link, link);
        let server = self.parts.shared.connection.server.clone();
        if before.up && (!link.up || before.connections != link.connections) {
            // Requests for jobs ended with the connection.
            self.pulls.abort();
        }
        match (before.up, link.up) {
            (true, false) => {
                self.lost_since = Some(Instant::now());
                self.pause_or_go_on();
                self.notice(format!(
                    "the connection with {server} is lost: running jobs go on, no more start\n"
                ));
            }
            (false, true) => {
                self.notice(format!("connected with {server} again\n"));
            }
            _ => {}
        }
        if link.up && before != link {
            self.pulls.abort();
            let since = self.lost_since.take();
            self.outage = since.map_or(Duration::ZERO, |since| since.elapsed());
            self.renew();
            // The message of a cancellation may have been lost, and the run may be another one. An
            // answer on an earlier connection says nothing.
            self.check.clear();
            self.unchecked = true;
            self.check_now = true;
            self.next_check = Instant::now();
            self.resume();
        }
    }

    /// Starts no jobs without a connection, and while the server has answered no renewal for most of
    /// the lease. Jobs that wait here are dropped then: the server may have given them to another
    /// worker.
    pub(super) fn pause_or_go_on(&mut self) {
        let late = since_boot() > self.renewed + self.parts.spec.lease() * 2 / 3;
        // Jobs of a deleted run are not started. Without a check to come nothing is held up.
        let unchecked = self.unchecked && self.takes_jobs();
        let paused = late || unchecked || !self.resumption.is_empty() || !self.link.up;
        if paused != self.paused {
            self.paused = paused;
            self.parts.admission.set_paused(paused);
        }
        let before = std::mem::replace(&mut self.late, late);
        if late != before && self.link.up {
            self.notice(match late {
                true => "the server does not answer renewals of leases: running jobs go on, no more start".into(),
                false => "the server renews leases again".into(),
            });
        }
        if late {
            self.parts.admission.drop_unstarted();
        }
        if late && !before {
            // The machine may have been suspended, and the next renewal be far away.
            self.renew();
        }
    }

    /// Renews all leases. That a message was sent says little: it may wait in a buffer of this
    /// machine. So the last one is a request. The server takes messages of a connection in their
    /// order.
    pub(super) fn renew(&mut self) {
        if !self.link.up {
            return;
        }
        let started = since_boot();
        // A consumer that was recreated knows no leases of the one before, which answers nothing.
        let recreations = self.parts.recreations;
        let current = self.held.values();
        let current = current.filter(|held| held.recreations == recreations);
        let mut replies: Vec<_> = current.map(|held| held.reply.clone()).collect();
        let Some(last) = replies.pop() else {
            return self.were_renewed(Some(started));
        };
        let client = self.parts.shared.connection.client.clone();
        let renewal = async move {
            for reply in replies {
                client.publish(reply, "+WPI".into()).await.ok()?;
            }
            client.request(last, "+WPI".into()).await.ok()
        };
        // A new one begins in a third of the lease, and with a connection, so there are few at a time.
        let time = self.parts.spec.lease().min(ANSWER_TIMEOUT);
        let renewal = timeout(time, renewal);
        self.renewals.push(Box::pin(async move {
            let answer = renewal.await.ok().flatten();
            answer.map(|_| started)
        }));
    }

    pub(super) fn were_renewed(&mut self, renewed: Option<Duration>) {
        let Some(renewed) = renewed else { return };
        let lease = self.parts.spec.lease();
        let before = self.renewed;
        self.renewed = before.max(renewed);
        // The server has taken this renewal at any time until now, perhaps after the network had held it
        // up.
        let now = since_boot();
        let is_lost = |held: &Held| before.max(held.taken) + lease < now;
        if self.held.values().any(is_lost) {
            // The lease may have ended before, and the server may have given these jobs to other
            // workers. It may have done so while they were looked up, too.
            self.restarts += 1;
            for held in self.held.values_mut() {
                held.doubtful |= is_lost(held);
            }
            self.parts.admission.drop_unstarted();
        }
        self.pause_or_go_on();
    }

    pub(super) fn heartbeat_interval(&self) -> Duration {
        (self.parts.spec.lease() / 3).clamp(Duration::from_secs(1), HEARTBEAT_INTERVAL_MAX)
    }

    pub(super) fn send_heartbeat(&self, ended: bool) {
        if !self.link.up || self.deleted {
            return;
        }
        let heartbeat = Heartbeat {
            worker: self.parts.worker.clone(),
            host: self.parts.host.clone(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").into(),
            capacity: self.parts.admission.limit(),
            jobs: self.unfinished,
            waiting: self.publications.len(),
            done: self.done,
            failed: self.failed,
            every_seconds: self.heartbeat_interval().as_secs_f64(),
            ended,
        };
        let shared = &self.parts.shared;
        let subject = shared.names.worker_subject(&shared.id, &self.parts.worker);
        let json = serde_json::to_vec(&heartbeat).unwrap_or_default();
        let client = shared.connection.client.clone();
        self.send(async move {
            let _ = client.publish(subject, json.into()).await;
            let _ = client.flush().await;
        });
    }
}
