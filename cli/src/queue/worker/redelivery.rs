//! Jobs that were delivered before: to a worker that was lost, or that gave them back.

use crate::queue::connection::Connection;
use crate::queue::error::QueueError;
use crate::queue::streams::Names;

/// What is known about a job that was delivered before.
pub(super) enum History {
    /// It has a result: its worker was lost between the result and the acknowledgement.
    Done,
    /// How often its workers gave it back.
    GivenBack(u64),
}

/// Looks up what happened to a job. The requests go to the leaders of the streams, so they see what
/// the last worker has published.
pub(super) async fn history(
    connection: &Connection,
    names: &Names,
    number: u64,
    delivery: u64,
) -> Result<History, QueueError> {
    let record = names.record_subject(number);
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
    let subject = names.given_back_subject(number);
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
