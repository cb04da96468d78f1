//! The jobs whose output is not complete, in the order of the list (`--keep-order`).

use std::sync::{Mutex, MutexGuard, PoisonError};

use roaring::RoaringTreemap;

/// The numbers of these jobs. A number takes about a bit, so there may be many.
#[derive(Debug, Default)]
pub(crate) struct SubmittedJobs(Mutex<RoaringTreemap>);

impl SubmittedJobs {
    fn lock(&self) -> MutexGuard<'_, RoaringTreemap> {
        // No code panics half-way through a change under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds jobs, before they can start. Each has a higher number than those before.
    pub(crate) fn add(&self, numbers: impl Iterator<Item = u64>) {
        self.lock().extend(numbers);
    }

    /// The first job.
    pub(super) fn first(&self) -> Option<u64> {
        self.lock().min()
    }

    pub(super) fn remove(&self, number: u64) {
        self.lock().remove(number);
    }

    /// Forgets all jobs but these.
    pub(super) fn replace(&self, numbers: RoaringTreemap) {
        *self.lock() = numbers;
    }
}
