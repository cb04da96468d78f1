//! `exitring queue status`: counts, workers, and the time that is left.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::connection::{Connection, with_connection};
use super::error::QueueError;
use super::model::heartbeat::Heartbeat;
use super::options::StatusOptions;
use crate::code;
use crate::duration;
use crate::failure::Failure;
use crate::run::report::summary::excerpt;
use crate::stdio;

/// The most workers that are read.
const WORKERS_MAX: usize = 10_000;

/// The state of a run. The fields of the JSON are stable; new ones may be added.
#[derive(Serialize)]
struct Status {
    run: String,
    /// Which run of this name it is.
    id: String,
    jobs: u64,
    submitted: u64,
    /// Jobs that no worker has.
    waiting: u64,
    /// Jobs that a worker has.
    taken: u64,
    /// Jobs with a result.
    done: u64,
    /// Records of jobs that have another one.
    extra_records: u64,
    redelivered: u64,
    cancelled: bool,
    /// At the rate of the last results.
    seconds_left: Option<f64>,
    workers: Vec<WorkerStatus>,
}

#[derive(Serialize)]
struct WorkerStatus {
    #[serde(flatten)]
    heartbeat: Heartbeat,
    /// The time since its last heartbeat, by the clock of the server.
    last_seen_seconds: f64,
    state: WorkerState,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum WorkerState {
    Running,
    /// It said so.
    Ended,
    /// It missed several heartbeats.
    Lost,
}

/// Shows the state of a run. Returns the exit code.
pub(super) fn status(options: &StatusOptions) -> Result<u8, Failure> {
    with_connection(&options.server, async |connection| {
        let status = read(connection).await?;
        let text = match options.json {
            true => crate::run::report::json::to_json_line(&status),
            false => status.render().into_bytes(),
        };
        let written = stdio::write_out(&text);
        written.map_err(|error| Failure::writing("standard output", &error))?;
        Ok(code::OK)
    })
}

async fn read(connection: &Connection) -> Result<Status, QueueError> {
    let spec = connection.spec().await?;
    let jobs = connection.jobs_state(&spec.id).await?;
    let records = connection.records_state(&spec.id).await?;
    let consumer = connection.consumer_state(&spec.id).await?;
    let now = server_time(connection).await?;
    let workers = workers(connection, &spec.id, now).await?;
    let done = records.subjects;
    let left = spec.jobs.saturating_sub(done);
    let rate = rate(connection, &spec.id, records.last_sequence, now).await?;
    Ok(Status {
        run: connection.run.clone(),
        id: spec.id,
        jobs: spec.jobs,
        submitted: jobs.last_sequence,
        waiting: consumer
            .num_pending
            .saturating_add(spec.jobs.saturating_sub(jobs.last_sequence)),
        taken: consumer.num_ack_pending,
        done,
        extra_records: records.messages.saturating_sub(done),
        redelivered: consumer.num_redelivered,
        cancelled: connection.is_cancelled().await?,
        seconds_left: rate.filter(|_| left > 0).map(|rate| left as f64 / rate),
        workers,
    })
}

/// The time by the clock of the server. The clock of this machine may differ by an hour.
async fn server_time(connection: &Connection) -> Result<Timestamp, QueueError> {
    let names = connection.names();
    let subject = names.clock_subject();
    let published = connection.context.publish(subject.clone(), "".into()).await;
    if let Ok(confirmation) = published {
        // Without the permission to publish, the local clock has to do.
        let _ = confirmation.await;
    }
    let stored = connection.last_message(&names.state, &subject).await?;
    Ok(stored.map_or_else(Timestamp::now, |stored| stored.time))
}

/// Results in a second, by the time of the last 1,000 records.
async fn rate(
    connection: &Connection,
    id: &str,
    last: u64,
    now: Timestamp,
) -> Result<Option<f64>, QueueError> {
    let first = last.saturating_sub(1000).max(1);
    if first >= last {
        return Ok(None);
    }
    let names = connection.names();
    let subject = names.record_subjects(id);
    let stored = connection
        .next_message(&names.records, first, &subject)
        .await?;
    let Some(stored) = stored else {
        return Ok(None);
    };
    let seconds = now.duration_since(stored.time).as_secs_f64();
    Ok((seconds > 0.0).then(|| (last - first + 1) as f64 / seconds))
}

async fn workers(
    connection: &Connection,
    id: &str,
    now: Timestamp,
) -> Result<Vec<WorkerStatus>, QueueError> {
    let names = connection.names();
    let (mut workers, mut sequence) = (Vec::new(), 1);
    while let Some(stored) = connection
        .next_message(&names.state, sequence, &names.worker_subject(id, "*"))
        .await?
    {
        sequence = stored.sequence.saturating_add(1);
        let Ok(heartbeat) = serde_json::from_slice::<Heartbeat>(&stored.payload) else {
            continue;
        };
        let age = now.duration_since(stored.time).as_secs_f64().max(0.0);
        let state = match (heartbeat.ended, age > 3.0 * heartbeat.every_seconds + 1.0) {
            (true, _) => WorkerState::Ended,
            (false, true) => WorkerState::Lost,
            (false, false) => WorkerState::Running,
        };
        workers.push(WorkerStatus {
            heartbeat,
            last_seen_seconds: age,
            state,
        });
        if workers.len() == WORKERS_MAX {
            break;
        }
    }
    Ok(workers)
}

impl Status {
    fn render(&self) -> String {
        let mut text = format!(
            "run {}: {} jobs, {} done, {} taken, {} waiting\n",
            self.run, self.jobs, self.done, self.taken, self.waiting
        );
        if self.submitted < self.jobs {
            let _ = writeln!(text, "submitted so far: {}", self.submitted);
        }
        if self.cancelled {
            text += "cancelled\n";
        }
        if self.extra_records > 0 {
            let _ = writeln!(text, "{} results do not count", self.extra_records);
        }
        if let Some(seconds) = self.seconds_left.filter(|_| !self.cancelled) {
            let left = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
            let _ = writeln!(text, "about {} left", duration::show(left));
        }
        for worker in &self.workers {
            let heartbeat = &worker.heartbeat;
            let state = match worker.state {
                WorkerState::Running => "running",
                WorkerState::Ended => "ended",
                WorkerState::Lost => "lost",
            };
            let seen = duration::show(Duration::from_secs_f64(worker.last_seen_seconds));
            let _ = writeln!(
                text,
                "worker {} on {} (pid {}): {state}, last seen {seen} ago; {} jobs taken, {} at a time; {} done, {} of them failed",
                excerpt(&heartbeat.worker),
                excerpt(&heartbeat.host),
                heartbeat.pid,
                heartbeat.jobs,
                heartbeat.capacity,
                heartbeat.done,
                heartbeat.failed
            );
        }
        text
    }
}
