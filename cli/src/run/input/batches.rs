//! Arguments of one list, several for each job (`--max-args`).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::held_list::HeldList;
use super::product::{Combination, Product};
use crate::failure::Failure;

/// The longest arguments of a job together, each with its terminator. The kernel accepts at least
/// this (`ARG_MAX`), and xargs has the same limit. One argument is never longer.
const LENGTH_MAX: usize = 128 * 1024;

pub(crate) struct Batches {
    /// It has one list.
    items: Product,
    max: usize,
    batch: HeldList,
    /// An item that was read and did not belong to the batch before.
    carried: Option<Combination<OsString>>,
    /// The list has ended. A terminal could be read again after that.
    ended: bool,
}

impl Batches {
    pub(super) fn new(items: Product, max: usize) -> Self {
        Self {
            items,
            max,
            batch: HeldList::default(),
            carried: None,
            ended: false,
        }
    }

    pub(crate) fn items(&self) -> &Product {
        &self.items
    }

    /// The number of jobs, if the list is in memory and its arguments are short.
    pub(crate) fn len(&self) -> Option<u64> {
        Some(self.items.len()?.div_ceil(self.max as u64))
    }

    /// Uses the arguments of the next job. An item that cannot be an argument is a job of its own.
    pub(crate) fn next<T>(
        &mut self,
        use_arguments: impl FnOnce(&[&OsStr]) -> T,
    ) -> Result<Option<Combination<T>>, Failure> {
        self.batch.clear();
        while self.batch.len() < self.max {
            let item = match self.carried.take() {
                Some(item) => Some(item),
                None if self.ended => None,
                None => self.items.next(|arguments| {
                    // The list has one argument at a time.
                    arguments.first().copied().unwrap_or_default().to_owned()
                })?,
            };
            match item {
                None => {
                    self.ended = true;
                    break;
                }
                Some(Combination::Arguments(argument))
                    if self.batch.len() == 0
                        || self.batch.terminated_length() + argument.len() < LENGTH_MAX =>
                {
                    self.batch.push(argument.as_bytes());
                }
                Some(Combination::Invalid(why, start)) if self.batch.len() == 0 => {
                    return Ok(Some(Combination::Invalid(why, start)));
                }
                other => {
                    self.carried = other;
                    break;
                }
            }
        }
        if self.batch.len() == 0 {
            return Ok(None);
        }
        let arguments: Vec<_> = self.batch.iter().collect();
        Ok(Some(Combination::Arguments(use_arguments(&arguments))))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;
    use crate::run::input::separator::Join;

    fn lengths(words: &[OsString], max: usize) -> Vec<usize> {
        let mut product = Product::default();
        product
            .add(Join::Combine, HeldList::from_words(words))
            .expect("one list");
        let mut batches = Batches::new(product, max);
        let mut lengths = Vec::new();
        while let Some(batch) = batches
            .next(|arguments| arguments.len())
            .expect("in memory")
        {
            match batch {
                Combination::Arguments(length) => lengths.push(length),
                Combination::Invalid(why, _) => panic!("{why}"),
            }
        }
        lengths
    }

    #[test]
    fn the_last_batch_may_be_smaller() {
        let words = vec![OsString::from("a"); 7];
        assert_eq!(lengths(&words, 3), [3, 3, 1]);
        assert_eq!(lengths(&words, 7), [7]);
        assert_eq!(lengths(&words, 1), [1; 7]);
        assert_eq!(lengths(&[], 3), [0; 0]);
    }

    #[test]
    fn long_arguments_make_smaller_batches() {
        let word = |length: usize| OsString::from_vec(vec![b'x'; length]);
        let words = [
            word(65_535),
            word(65_535),
            word(65_535),
            word(131_071),
            word(0),
        ];
        assert_eq!(lengths(&words, 10), [2, 1, 1, 1]);
    }
}
