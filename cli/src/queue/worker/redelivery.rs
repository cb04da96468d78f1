//! Jobs that were delivered before: to a worker that was lost, or that gave them back.

use std::time::Duration;

use tokio::time::sleep;

use super::publication::Shared;
use crate::queue::error::QueueError;

/// The pause before a lookup is repeated.
const PAUSE: Duration = Duration::from_secs(1);

/// What is known about a job that was delivered before.
pub(super) enum History {
    /// It has a result: its worker was lost between the result and the acknowledgement.
    Done,
    /// How often its workers gave it back.
    GivenBack(u64),
}

/// Looks up what happened to a job, until there is an answer. A lookup that fails says nothing about
/// the worker, so it must not end the lease. `None`: the worker ends, or the run was deleted.
pub(super) async fn look_up(shared: &Shared, number: u64, delivery: u64) -> Option<History> {
    loop {
        match history(shared, number, delivery).await {
            Ok(history) => return Some(history),
            Err(error) if error.is_deleted() || shared.closing.get() => return None,
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// The requests go to the leaders of the streams, so they see what the last worker has published.
async fn history(shared: &Shared, number: u64, delivery: u64) -> Result<History, QueueError> {
    let (connection, names, id) = (&shared.connection, &shared.names, &shared.id);
    let record = names.record_subject(id, number);
    if connection
        .last_message(&names.records, &record)
        .await?
        .is_some()
    {
        return Ok(History::Done);
    }
    if delivery == 1 {
        // The deliveries before are forgotten, so none is counted.
        return Ok(History::GivenBack(0));
    }
    let subject = names.given_back_subject(id, number);
    let stored = connection.last_message(&names.state, &subject).await?;
    let count = stored.and_then(|stored| std::str::from_utf8(&stored.payload).ok()?.parse().ok());
    Ok(History::GivenBack(count.unwrap_or(0)))
}

/// How often the workers of a job were lost. Each delivery but this one has ended with a worker that
/// gave the job back, or that was lost.
pub(super) fn lost(delivery: u64, given_back: u64) -> u64 {
    delivery.saturating_sub(1).saturating_sub(given_back)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliveries_that_were_given_back_are_not_lost() {
        assert_eq!(lost(1, 0), 0);
        assert_eq!(lost(4, 0), 3);
        assert_eq!(lost(4, 2), 1);
        // The count was stored, and giving back was not.
        assert_eq!(lost(2, 3), 0);
    }
}
