//! How much of something one user may have at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

/// Users with so few are not looked through.
const FEW: usize = 64;

/// A quarter for each user, so that no one can take all; all for whoever runs the service.
pub(crate) struct Shares {
    all: usize,
    own: u32,
    of: Mutex<HashMap<u32, Arc<Semaphore>>>,
}

impl Shares {
    pub(crate) fn new(all: usize, own: u32) -> Self {
        let of = Mutex::default();
        Self { all, own, of }
    }

    /// How much is a user's.
    pub(crate) fn size(&self, uid: u32) -> usize {
        match uid == self.own {
            true => self.all,
            false => (self.all / 4).max(1),
        }
    }

    /// What is left of a user's share.
    pub(crate) fn of(&self, uid: u32) -> Arc<Semaphore> {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if of.len() > FEW {
            // Who has a permit, or waits for one, has a copy: these are the ones of whom nobody is here.
            of.retain(|_, share| Arc::strong_count(share) > 1);
        }
        let share = || Arc::new(Semaphore::new(self.size(uid)));
        Arc::clone(of.entry(uid).or_insert_with(share))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_quarter_whoever_runs_it_all_and_nothing_is_kept_of_who_has_gone() {
        let shares = Shares::new(8, 0);
        assert_eq!((shares.size(0), shares.size(7)), (8, 2));
        let held: Vec<_> = (0..2).map(|_| shares.of(7).try_acquire_owned()).collect();
        assert!(held.iter().all(Result::is_ok));
        for uid in 100..300 {
            assert!(shares.of(uid).try_acquire_owned().is_ok());
        }
        assert!(shares.of(7).try_acquire_owned().is_err());
        let known = shares.of.lock().expect("it did not panic").len();
        assert!(known <= FEW + 2, "{known}");
        drop(held);
        assert!(shares.of(7).try_acquire_owned().is_ok());
    }
}
