//! A job that is given back: another worker gets it at once.

use std::rc::Rc;
use std::time::Duration;

use async_nats::Subject;
use async_nats::jetstream::message::PublishMessage;
use tokio::time::timeout;

use super::publication::Shared;
use crate::queue::clock::since_boot;
use crate::queue::connection::ANSWER_TIMEOUT;

/// How long a job that this machine cannot start waits for another one.
const LATER: Duration = Duration::from_secs(5);

/// A job that is given back.
pub(super) struct GiveBack {
    pub(super) number: u64,
    pub(super) reply: Subject,
    /// How often it was given back, including this time. `None`: unknown, and it counts as lost.
    pub(super) count: Option<u64>,
    /// Not at once: this machine lacks a resource, and another one may not.
    pub(super) later: bool,
    /// The lease ends at this time if it is not renewed.
    pub(super) lease_end: Duration,
}

/// Stores how often the job was given back, so that this delivery does not count as one whose worker
/// was lost, and then gives it back. The next worker looks the count up as soon as it has the job, so
/// the server has confirmed it before. Without a confirmation the lease ends by itself.
pub(super) async fn give_back(shared: Rc<Shared>, job: GiveBack) {
    // Without a connection the client would keep the messages, and send them much later.
    let _ = timeout(ANSWER_TIMEOUT, send(&shared, job)).await;
}

async fn send(shared: &Shared, job: GiveBack) -> Option<()> {
    let connection = &shared.connection;
    if let Some(count) = job.count {
        let subject = shared.names.given_back_subject(&shared.id, job.number);
        let count = PublishMessage::build().payload(count.to_string().into());
        let sent = connection.context.send_publish(subject, count);
        sent.await.ok()?.await.ok()?;
    }
    // A later message could take the job away from the worker that has it by then.
    if !connection.link.borrow().up || since_boot() >= job.lease_end {
        return None;
    }
    let nak = match job.later {
        true => format!("-NAK {{\"delay\": {}}}", LATER.as_nanos()),
        false => "-NAK".into(),
    };
    let client = &connection.client;
    client.publish(job.reply, nak.into()).await.ok()?;
    client.flush().await.ok()
}
