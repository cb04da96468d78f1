//! What a connection has subscribed to: records, sent beside its answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use exitring_protocol::{Code, Error, ServerLine};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::service::Service;
use super::session::text;
use super::store::{Lines, Scope};
use super::wire::Wire;

/// How long a subscriber is kept waiting for what cannot be written down, or read back.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked whether something keeps it waiting.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often reading back is tried.
const READ_EVERY: Duration = Duration::from_millis(500);

/// Whether an answer is due to what may have ended already: the record comes after it.
#[derive(Clone, Default)]
pub(crate) struct Answering(Arc<watch::Sender<bool>>);

impl Answering {
    /// Before it can be seen to end.
    pub(crate) fn begin(&self) {
        self.0.send_replace(true);
    }

    /// It was given.
    pub(super) fn end(&self) {
        self.0.send_replace(false);
    }

    /// For records that were fetched before.
    async fn over(&self) {
        // It does not fail: the sender is here.
        let _ = self.0.subscribe().wait_for(|answering| !answering).await;
    }
}

/// Sends all records from a place on, as they are committed and as the client takes them. Between two pages nothing is kept
/// but the place.
pub(super) async fn send_records(
    service: &Arc<Service>,
    wire: &Wire,
    scope: &Scope,
    from: u64,
    stop: &CancellationToken,
    answering: &Answering,
) -> anyhow::Result<Result<(), Error>> {
    let mut committed = service.committed.clone();
    // What was there before comes from the file: in memory there may be records that were acknowledged.
    let backlog = *committed.borrow();
    let mut cursor = from;
    // Up to where it was told what is lost: between the places that are, there may be records that are not.
    let mut lost_upto = 0;
    let mut caught_up = false;
    let mut unreadable: Option<Instant> = None;
    loop {
        if !caught_up && cursor > backlog {
            caught_up = true;
            let line = ServerLine::CaughtUp { caught_up: backlog };
            wire.write(&text(&line)).await?;
        }
        let complete = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(Ok(())),
            error = kept_waiting(service), if caught_up => return Ok(Err(error)),
            complete = committed.wait_for(|complete| *complete >= cursor) => *complete?,
        };
        let newest = match cursor > backlog {
            true => service.tail.page(cursor, scope),
            false => None,
        };
        let page = match newest {
            Some(page) => page,
            None => match read_back(service, scope, cursor, complete).await {
                Ok(page) => page,
                Err(error) => {
                    let since = *unreadable.get_or_insert_with(Instant::now);
                    if since.elapsed() > PATIENCE {
                        let message = format!(
                            "records cannot be read back ({error}); see the state folder of the service"
                        );
                        return Ok(Err(Error::new(Code::Storage, message)));
                    }
                    tracing::error!(%error, "records cannot be read back; it is tried again");
                    tokio::time::sleep(READ_EVERY).await;
                    continue;
                }
            },
        };
        unreadable = None;
        if let Some(lost) = page.lost.filter(|lost| lost.to > lost_upto) {
            lost_upto = lost.to;
            wire.write(&text(&ServerLine::Lost { lost })).await?;
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(Ok(())),
            () = answering.over() => {}
        }
        wire.write(&page.text).await?;
        cursor = page.next;
    }
}

/// Comes back when there are exits that cannot be written down, and have not been for long: what a subscriber waits for may be
/// among them.
async fn kept_waiting(service: &Service) -> Error {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if let Some(error) = service.store.exits_kept_waiting(PATIENCE) {
            return error;
        }
    }
}

async fn read_back(
    service: &Arc<Service>,
    scope: &Scope,
    cursor: u64,
    complete: u64,
) -> anyhow::Result<Lines> {
    // One at a time reads, and the others wait without a thread of the pool's, which is for other things, too.
    let _turn = service.reading.acquire().await?;
    let (service, scope) = (Arc::clone(service), scope.clone());
    let page =
        tokio::task::spawn_blocking(move || service.reader.page(cursor, complete, &scope)).await?;
    Ok(page?)
}
