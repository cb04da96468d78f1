//! How much of a resource one user may have at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

/// Up to this many users, unused semaphores are not removed.
const FEW: usize = 64;

/// One semaphore per user. The user that runs the service may have all of the resource, and every
/// other user a quarter, so that none can take all.
pub(crate) struct Quotas {
    total: usize,
    own_uid: u32,
    by_user: Mutex<HashMap<u32, Arc<Semaphore>>>,
}

impl Quotas {
    pub(crate) fn new(total: usize, own_uid: u32) -> Self {
        Self {
            total,
            own_uid,
            by_user: Mutex::default(),
        }
    }

    /// How much a user may have.
    pub(crate) fn limit(&self, uid: u32) -> usize {
        match uid == self.own_uid {
            true => self.total,
            false => (self.total / 4).max(1),
        }
    }

    /// The semaphore of a user.
    pub(crate) fn semaphore(&self, uid: u32) -> Arc<Semaphore> {
        let mut by_user = self.by_user.lock().unwrap_or_else(PoisonError::into_inner);
        if by_user.len() > FEW {
            // A user that holds a permit, or waits for one, has a second reference.
            by_user.retain(|_, semaphore| Arc::strong_count(semaphore) > 1);
        }
        let semaphore = || Arc::new(Semaphore::new(self.limit(uid)));
        Arc::clone(by_user.entry(uid).or_insert_with(semaphore))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_user_has_a_quarter_the_owner_has_all_and_unused_semaphores_are_removed() {
        let quotas = Quotas::new(8, 0);
        assert_eq!((quotas.limit(0), quotas.limit(7)), (8, 2));
        let acquire = |uid| quotas.semaphore(uid).try_acquire_owned();
        let held: Vec<_> = (0..2).map(|_| acquire(7)).collect();
        assert!(held.iter().all(Result::is_ok));
        for uid in 100..300 {
            assert!(acquire(uid).is_ok());
        }
        assert!(acquire(7).is_err());
        let known = quotas.by_user.lock().expect("it did not panic").len();
        assert!(known <= FEW + 2, "{known}");
        drop(held);
        assert!(acquire(7).is_ok());
    }
}
