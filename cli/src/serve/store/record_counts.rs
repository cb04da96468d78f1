//! How many records each user has.

use std::collections::HashMap;

/// A user, and a number of its records.
pub(super) type UserCount = (u32, u64);

/// The numbers of stored records, by user.
#[derive(Clone, Debug, Default)]
pub(super) struct RecordCounts(HashMap<u32, u64>);

impl RecordCounts {
    pub(super) fn new(counts: Vec<UserCount>) -> Self {
        Self(counts.into_iter().collect())
    }

    /// Of all users.
    pub(super) fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// The user with the most records.
    pub(super) fn largest(&self) -> Option<UserCount> {
        let largest = self.0.iter().max_by_key(|(_, count)| **count);
        largest.map(|(uid, count)| (*uid, *count))
    }

    pub(super) fn add_one(&mut self, uid: u32) {
        *self.0.entry(uid).or_default() += 1;
    }

    /// Subtracts deleted records. Returns how many they are in total.
    pub(super) fn subtract(&mut self, deleted: &[UserCount]) -> u64 {
        for (uid, count) in deleted {
            let left = self.0.entry(*uid).or_default();
            *left = left.saturating_sub(*count);
            if *left == 0 {
                self.0.remove(uid);
            }
        }
        deleted.iter().map(|(_, count)| count).sum()
    }
}
