//! Iterators over a queue of exits.

use std::iter::FusedIterator;

use super::{Exits, Tagged};
use crate::error::{Closed, RecvError, TryRecvError};

/// A blocking iterator over the exits of a borrowed queue. [`Exits::iter`] makes it.
#[derive(Debug)]
#[must_use = "iterators are lazy and do nothing unless consumed"]
pub struct ExitsIter<'a>(Option<&'a Exits>);

/// An iterator over the exits that are in a queue. [`Exits::try_iter`] makes it.
#[derive(Debug)]
#[must_use = "iterators are lazy and do nothing unless consumed"]
pub struct ExitsTryIter<'a>(Option<&'a Exits>);

/// A blocking iterator over the exits of an owned queue. `for exit in exits` makes it.
#[derive(Debug)]
#[must_use = "iterators are lazy and do nothing unless consumed"]
pub struct ExitsIntoIter(Option<Exits>);

impl<'a> ExitsIter<'a> {
    pub(super) fn new(exits: &'a Exits) -> Self {
        Self(Some(exits))
    }
}

impl<'a> ExitsTryIter<'a> {
    pub(super) fn new(exits: &'a Exits) -> Self {
        Self(Some(exits))
    }
}

/// The next item of a blocking iterator, and whether the iteration ends with it.
fn next(exits: &Exits) -> (Option<Result<Tagged, RecvError>>, bool) {
    let item = exits.recv().transpose();
    let last = match item {
        None | Some(Err(RecvError::WouldDeadlock | RecvError::Closed(Closed::ForkedChild))) => true,
        Some(Ok(_) | Err(RecvError::Closed(_))) => false,
    };
    (item, last)
}

impl Iterator for ExitsIter<'_> {
    type Item = Result<Tagged, RecvError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (item, last) = next(self.0?);
        if last {
            self.0 = None;
        }
        item
    }
}

impl Iterator for ExitsTryIter<'_> {
    type Item = Result<Tagged, Closed>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.0?.try_recv() {
            Ok(tagged) => tagged.map(Ok),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Closed(closed)) => {
                if closed == Closed::ForkedChild {
                    self.0 = None;
                }
                Some(Err(closed))
            }
        }
    }
}

impl Iterator for ExitsIntoIter {
    type Item = Result<Tagged, RecvError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (item, last) = next(self.0.as_ref()?);
        if last {
            self.0 = None;
        }
        item
    }
}

impl FusedIterator for ExitsIter<'_> {}

impl FusedIterator for ExitsIntoIter {}

impl<'a> IntoIterator for &'a Exits {
    type Item = Result<Tagged, RecvError>;
    type IntoIter = ExitsIter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl IntoIterator for Exits {
    type Item = Result<Tagged, RecvError>;
    type IntoIter = ExitsIntoIter;

    fn into_iter(self) -> Self::IntoIter {
        ExitsIntoIter(Some(self))
    }
}
