//! Whether the state can be written.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// The state's condition. The writer sets it, and all threads may read it.
#[derive(Default)]
pub(super) struct Health {
    failure: Mutex<Option<Failure>>,
    /// Cancelled once the state was deleted or replaced: that failure is permanent.
    lost: CancellationToken,
}

struct Failure {
    cause: String,
    /// Since when exits have been waiting to be stored.
    exits_since: Option<Instant>,
}

impl Health {
    /// Why the state cannot be written, or `None` if it can.
    pub(super) fn write_error(&self) -> Option<String> {
        self.lock().as_ref().map(|failure| failure.cause.clone())
    }

    /// The cause, if exits have been waiting to be stored for this long.
    pub(super) fn exits_delayed(&self, limit: Duration) -> Option<String> {
        let failure = self.lock();
        let failure = failure.as_ref()?;
        (failure.exits_since?.elapsed() >= limit).then(|| failure.cause.clone())
    }

    pub(super) fn is_writable(&self) -> bool {
        self.lock().is_none()
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// Waits until the state is deleted or replaced.
    pub(super) async fn lost(&self) {
        self.lost.cancelled().await;
    }

    pub(super) fn set_writable(&self) {
        if self.lock().take().is_some() {
            tracing::info!("the state can be written again");
        }
    }

    /// Records a failed write. `exits`: whether exits wait for the next one.
    pub(super) fn set_failing(&self, cause: &str, exits: bool) {
        let mut failure = self.lock();
        if failure.is_none() {
            tracing::error!(
                error = cause,
                "the state cannot be written: new requests are refused, and exits stay in memory until it can be written"
            );
        }
        let since = failure.take().and_then(|failure| failure.exits_since);
        *failure = Some(Failure {
            cause: cause.to_owned(),
            exits_since: since.or_else(|| exits.then(Instant::now)),
        });
    }

    /// Records that the state was deleted or replaced.
    pub(super) fn set_lost(&self, cause: &str) {
        let (cause, exits_since) = (cause.to_owned(), None);
        *self.lock() = Some(Failure { cause, exits_since });
        self.lost.cancel();
    }

    fn lock(&self) -> MutexGuard<'_, Option<Failure>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
