//! Whether the state can be written.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// The writer finds out, and all may ask.
#[derive(Default)]
pub(super) struct Health {
    trouble: Mutex<Option<Trouble>>,
    /// The state was deleted or replaced: the trouble will not pass.
    gone: CancellationToken,
}

/// Why nothing can be written.
struct Trouble {
    why: String,
    /// Since when there are exits among what is not.
    exits_since: Option<Instant>,
}

impl Health {
    /// Why nothing can be written, if so.
    pub(super) fn trouble(&self) -> Option<String> {
        self.lock().as_ref().map(|trouble| trouble.why.clone())
    }

    /// The same, if exits have waited for so long.
    pub(super) fn exits_kept_waiting(&self, patience: Duration) -> Option<String> {
        let trouble = self.lock();
        let trouble = trouble.as_ref()?;
        (trouble.exits_since?.elapsed() >= patience).then(|| trouble.why.clone())
    }

    pub(super) fn is_well(&self) -> bool {
        self.lock().is_none()
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone.is_cancelled()
    }

    /// When the state was deleted or replaced.
    pub(super) async fn gone(&self) {
        self.gone.cancelled().await;
    }

    /// It can be written.
    pub(super) fn get_well(&self) {
        if self.lock().take().is_some() {
            tracing::info!("the state can be written again");
        }
    }

    /// It cannot be written; `exits`: whether some have to wait for it.
    pub(super) fn fall_ill(&self, why: &str, exits: bool) {
        let mut trouble = self.lock();
        if trouble.is_none() {
            tracing::error!(
                error = why,
                "the state cannot be written: nothing new is taken, exits are kept in memory until it can"
            );
        }
        let since = trouble.take().and_then(|trouble| trouble.exits_since);
        *trouble = Some(Trouble {
            why: why.to_owned(),
            exits_since: since.or_else(|| exits.then(Instant::now)),
        });
    }

    /// It will never be written again.
    pub(super) fn lose(&self, why: &str) {
        let (why, exits_since) = (why.to_owned(), None);
        *self.lock() = Some(Trouble { why, exits_since });
        self.gone.cancel();
    }

    fn lock(&self) -> MutexGuard<'_, Option<Trouble>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
