//! The subscription of a connection: a task that sends records beside the replies.

use std::sync::Arc;
use std::time::{Duration, Instant};

use exitring_protocol::{Code, Error, ServerLine};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::line_socket::LineSocket;
use super::reply::{encode, send_error};
use crate::serve::requests::PendingReply;
use crate::serve::service::Service;
use crate::serve::store::RecordPage;
use crate::serve::watches::Scope;

/// How long a subscriber waits for records that cannot be stored, or read back.
const DELAY_MAX: Duration = Duration::from_secs(10);
/// How often the delay of records is checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How often reading back is retried.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// The task. Dropping this aborts it.
pub(super) struct Subscription {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// What the task sends, and where.
pub(super) struct Source {
    pub(super) service: Arc<Service>,
    pub(super) socket: Arc<LineSocket>,
    pub(super) scope: Scope,
    /// The first sequence number.
    pub(super) from: u64,
    pub(super) pending_reply: PendingReply,
}

impl Subscription {
    /// Starts the task. `failed`: cancelled if the task has to end the connection.
    pub(super) fn start(source: Source, failed: CancellationToken) -> Self {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            // The connection's reader notices if the client has closed it.
            if let Ok(Err(error)) = source.send_records(&stopped).await {
                let _ = send_error(&source.service, &source.socket, error).await;
                failed.cancel();
            }
        });
        Self { stop, task }
    }

    /// Ends the task between two lines, so that it sends nothing after the next reply.
    pub(super) async fn end(mut self) {
        self.stop.cancel();
        // The panic hook has logged a panic of the task.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // The task has ended, or the connection has: then half a line does no harm.
        self.task.abort();
    }
}

impl Source {
    /// Sends all records from a sequence number on, as they are committed and as the client reads
    /// them. Between two pages it keeps only the next sequence number.
    async fn send_records(&self, stop: &CancellationToken) -> anyhow::Result<Result<(), Error>> {
        let service = &self.service;
        let mut committed = service.committed.clone();
        // Older records come from the file: those in memory may have been acknowledged.
        let backlog_end = *committed.borrow();
        let mut next = self.from;
        // The end of the losses that were reported. The range of a loss may contain kept records.
        let mut lost_upto = 0;
        let mut caught_up = false;
        let mut unreadable: Option<Instant> = None;
        loop {
            if !caught_up && next > backlog_end {
                caught_up = true;
                let line = ServerLine::CaughtUp {
                    caught_up: backlog_end,
                };
                self.socket.write(&encode(&line)).await?;
            }
            let last = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(Ok(())),
                error = exits_delayed(service), if caught_up => return Ok(Err(error)),
                last = committed.wait_for(|last| *last >= next) => *last?,
            };
            let recent = match next > backlog_end {
                true => service.recent.page(next, &self.scope),
                false => None,
            };
            let page = match recent {
                Some(page) => page,
                None => match self.read_back(next, last).await {
                    Ok(page) => page,
                    Err(error) => {
                        let since = *unreadable.get_or_insert_with(Instant::now);
                        if since.elapsed() > DELAY_MAX {
                            let message = format!(
                                "records cannot be read back ({error}); check the state directory of the service"
                            );
                            return Ok(Err(Error::new(Code::Storage, message)));
                        }
                        tracing::error!(%error, "records cannot be read back; retrying");
                        tokio::time::sleep(RETRY_AFTER).await;
                        continue;
                    }
                },
            };
            unreadable = None;
            if let Some(lost) = page.lost.filter(|lost| lost.to > lost_upto) {
                lost_upto = lost.to;
                let line = ServerLine::Lost { lost };
                self.socket.write(&encode(&line)).await?;
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(Ok(())),
                () = self.pending_reply.sent() => {}
            }
            self.socket.write(&page.text).await?;
            next = page.next;
        }
    }

    async fn read_back(&self, next: u64, last: u64) -> anyhow::Result<RecordPage> {
        let service = Arc::clone(&self.service);
        // One subscription reads at a time. The others wait here and not on a thread of the pool,
        // which other work needs.
        let _permit = self.service.reader_permit.acquire().await?;
        let scope = self.scope.clone();
        let read = move || service.reader.page(next, last, &scope);
        Ok(tokio::task::spawn_blocking(read).await??)
    }
}

/// Returns when exits could not be stored for too long. The subscriber may be waiting for one of
/// them.
async fn exits_delayed(service: &Service) -> Error {
    loop {
        tokio::time::sleep(CHECK_INTERVAL).await;
        if let Some(error) = service.store.exits_delayed(DELAY_MAX) {
            return error;
        }
    }
}
