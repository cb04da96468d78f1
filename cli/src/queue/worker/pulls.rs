//! Requests for jobs.
//!
//! Each request has its own inbox, so it is known how many of its jobs are still to come. The server
//! sends heartbeats to it. A request that gets none is stalled, whatever the reason is: a new
//! leader of the stream, a consumer that hangs, a connection that is half open.
//!
//! A message does not say when the server has sent it. It may have been on its way for as long as the
//! network was cut, and its lease may be over by then. So a request is open only for a part of the
//! lease, and a lease is counted from the time of the request.

use std::time::Duration;

use async_nats::{Client, Message, StatusCode};
use futures_util::StreamExt;
use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::queue::clock::since_boot;
use crate::queue::streams::Names;

/// How long a request waits for jobs, at most, and at most a quarter of the lease. A worker that ends
/// waits as long: the server may be about to answer.
const EXPIRES_MAX: Duration = Duration::from_secs(3);
const HEARTBEAT_MAX: Duration = Duration::from_secs(1);
/// Without a job or a heartbeat for this long a request is stalled.
const STALLED: Duration = Duration::from_secs(7);
/// The most requests at a time.
const REQUESTS_MAX: usize = 16;
/// The most jobs of one request.
const BATCH_MAX: usize = 1024;
/// The most bytes of the answers to one request, unless a job may be larger. The server ends a
/// connection with more than 64 MiB to be sent.
const BYTES_MAX: usize = 2 * 1024 * 1024;

/// What a request gets. The channel is unbounded, but the number of requested jobs is not.
pub(super) enum Pulled {
    Job(Delivery),
    Ended(Ended, u64),
}

/// A job that has come.
pub(super) struct Delivery {
    pub(super) message: Message,
    pub(super) generation: u64,
    /// When it was requested: it was not delivered before.
    pub(super) requested: Duration,
}

/// The end of a request, of which `left` jobs did not come.
pub(super) struct Ended {
    left: usize,
    why: Why,
}

enum Why {
    Normal,
    Stalled,
    Refused(String),
}

/// The requests of this worker.
pub(super) struct Pulls {
    client: Client,
    subject: String,
    /// How long a request waits for jobs. It is shorter than the lease: a job that the server has sent
    /// to a worker that it cannot reach is not sent there again, because no request is left.
    expires: Duration,
    /// Jobs that are still to come.
    requested: usize,
    tasks: Vec<JoinHandle<()>>,
    running: usize,
    /// The connection that they belong to: a server forgets requests when the connection ends.
    generation: u64,
    /// Requests in succession that stalled.
    stalled: u32,
    sender: UnboundedSender<Pulled>,
    /// No more requests are made.
    stopped: bool,
}

impl Pulls {
    pub(super) fn new(
        client: Client,
        names: &Names,
        consumer: &str,
        lease: Duration,
    ) -> (Self, UnboundedReceiver<Pulled>) {
        let (sender, receiver) = unbounded_channel();
        let pulls = Self {
            client,
            subject: subject(names, consumer),
            expires: (lease / 4).min(EXPIRES_MAX),
            requested: 0,
            tasks: Vec::new(),
            running: 0,
            generation: 0,
            stalled: 0,
            sender,
            stopped: false,
        };
        (pulls, receiver)
    }

    /// The connection of the requests from now on.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn requested(&self) -> usize {
        self.requested
    }

    pub(super) fn may_request(&self) -> bool {
        self.running < REQUESTS_MAX && !self.stopped
    }

    /// Makes requests of another consumer from now on.
    pub(super) fn change_consumer(&mut self, names: &Names, consumer: &str) {
        self.abort();
        self.subject = subject(names, consumer);
    }

    /// Makes no more requests. Those that are under way go on until the server ends them, and what they
    /// get is given back. If this end gave them up, the server might not know in time, and a job that
    /// it sends would be with nobody until its lease is over, and count as one of a lost worker.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
    }

    pub(super) fn is_running(&self) -> bool {
        self.running > 0
    }

    pub(super) fn request(&mut self, jobs: usize) {
        let jobs = jobs.min(BATCH_MAX);
        self.requested += jobs;
        self.running += 1;
        self.tasks.retain(|task| !task.is_finished());
        let request = pull(
            self.client.clone(),
            self.subject.clone(),
            (jobs, self.expires),
            self.sender.clone(),
            self.generation,
        );
        self.tasks.push(tokio::spawn(request));
    }

    /// Forgets all requests. What was delivered to them before is in the channel.
    pub(super) fn abort(&mut self) {
        for task in self.tasks.drain(..) {
            task.abort();
        }
        self.generation += 1;
        (self.requested, self.running) = (0, 0);
    }

    /// Notes that a job has come.
    pub(super) fn job_came(&mut self, generation: u64) {
        if generation == self.generation {
            self.requested -= 1;
            self.stalled = 0;
        }
    }

    /// Notes the end of a request. Returns an error to report, and whether to connect again.
    pub(super) fn ended(&mut self, ended: Ended, generation: u64) -> (Option<String>, bool) {
        if generation != self.generation {
            return (None, false);
        }
        self.requested -= ended.left;
        self.running -= 1;
        match ended.why {
            Why::Normal => {
                self.stalled = 0;
                (None, false)
            }
            Why::Refused(reason) => (Some(reason), false),
            Why::Stalled => {
                self.stalled += 1;
                // The others have stalled as well.
                let reconnect = self.stalled.is_multiple_of(3);
                let reason = "it sends neither jobs nor heartbeats";
                (reconnect.then(|| reason.into()), reconnect)
            }
        }
    }
}

fn subject(names: &Names, consumer: &str) -> String {
    format!("$JS.API.CONSUMER.MSG.NEXT.{}.{consumer}", names.jobs)
}

async fn pull(
    client: Client,
    subject: String,
    (jobs, expires): (usize, Duration),
    sender: UnboundedSender<Pulled>,
    generation: u64,
) {
    let mut left = jobs;
    let bytes = BYTES_MAX.max(2 * client.max_payload());
    let request = json!({
        "batch": jobs,
        "max_bytes": bytes,
        "expires": expires.as_nanos() as u64,
        // The server refuses more than half of the time.
        "idle_heartbeat": HEARTBEAT_MAX.min(expires / 2).as_nanos() as u64,
    });
    let request = (subject, request.to_string());
    let why = receive(&client, request, &mut left, &sender, generation).await;
    let _ = sender.send(Pulled::Ended(Ended { left, why }, generation));
}

async fn receive(
    client: &Client,
    (subject, request): (String, String),
    left: &mut usize,
    sender: &UnboundedSender<Pulled>,
    generation: u64,
) -> Why {
    let refused = |error: &dyn std::error::Error| Why::Refused(crate::failure::chain(error));
    let requested = since_boot();
    let inbox = client.new_inbox();
    let mut messages = match client.subscribe(inbox.clone()).await {
        Ok(messages) => messages,
        Err(error) => return refused(&error),
    };
    let sent = client.publish_with_reply(subject, inbox, request.into());
    if let Err(error) = sent.await {
        return refused(&error);
    }
    while *left > 0 {
        let message = match timeout(STALLED, messages.next()).await {
            Err(_) => return Why::Stalled,
            Ok(None) => return Why::Normal,
            Ok(Some(message)) => message,
        };
        match message.status {
            None | Some(StatusCode::OK) => {
                *left -= 1;
                let delivery = Delivery {
                    message,
                    generation,
                    requested,
                };
                if sender.send(Pulled::Job(delivery)).is_err() {
                    return Why::Normal;
                }
            }
            Some(StatusCode::IDLE_HEARTBEAT) => {}
            Some(StatusCode::NOT_FOUND | StatusCode::TIMEOUT) => return Why::Normal,
            Some(StatusCode::NO_RESPONDERS) => {
                return Why::Refused("it does not know the jobs of the run".into());
            }
            // The consumer was deleted, the leader has changed, the server shuts down.
            Some(status) => {
                let text = message.description.unwrap_or_default();
                if text.contains("MaxBytes") {
                    return Why::Normal;
                }
                return Why::Refused(format!("{text} ({status})"));
            }
        }
    }
    Why::Normal
}
