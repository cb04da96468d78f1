//! Iterators over exits.

use std::iter::FusedIterator;

use super::{Exits, Tagged};
use crate::error::{Closed, RecvError, TryRecvError};

/// The exits of a queue that is borrowed. Made by [`Exits::iter`].
#[derive(Debug)]
#[must_use = "an iterator does nothing until it is asked"]
pub struct ExitsIter<'a>(pub(super) Option<&'a Exits>);

/// The exits that there are. Made by [`Exits::try_iter`].
#[derive(Debug)]
#[must_use = "an iterator does nothing until it is asked"]
pub struct ExitsTryIter<'a>(pub(super) Option<&'a Exits>);

/// The exits of a queue that is owned. Made by `for exit in exits`.
#[derive(Debug)]
#[must_use = "an iterator does nothing until it is asked"]
pub struct ExitsIntoIter(Option<Exits>);

/// The next item of an iterator, and whether it is the last.
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
