//! The arguments of a template: lists that are combined or linked.

use std::ffi::{OsStr, OsString};

use crate::failure::Failure;

/// What precedes a list of arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Separator {
    /// `:::`: each argument is combined with those of the other lists.
    Combine,
    /// `:::+`: each argument belongs to that at the same place in the list before.
    Link,
}

/// The combinations of all lists, each of which is a job. The last list varies fastest.
#[derive(Debug, Default)]
pub(crate) struct Product {
    /// Lists that are linked with one another have the same length and make a group.
    groups: Vec<Vec<Vec<OsString>>>,
    /// The place of the next argument in each group.
    next: Vec<usize>,
    ended: bool,
}

impl Product {
    pub(super) fn add(
        &mut self,
        separator: Separator,
        arguments: Vec<OsString>,
    ) -> Result<(), Failure> {
        if arguments.is_empty() {
            return Err(Failure::usage("no arguments after a ::: or :::+")
                .remedy("without any :::, arguments are the lines of FILE or standard input, of which there may be none"));
        }
        match (separator, self.groups.last_mut()) {
            (Separator::Combine, _) => {
                self.groups.push(vec![arguments]);
                self.next.push(0);
                Ok(())
            }
            (Separator::Link, None) => {
                let cause =
                    "no list before :::+, which links its arguments with those of the list before";
                Err(Failure::usage(cause).remedy("write ::: for the first list"))
            }
            (Separator::Link, Some(group)) if group[0].len() != arguments.len() => {
                let cause = format!(
                    "a list after :::+ has {} arguments, and the list before has {}",
                    arguments.len(),
                    group[0].len()
                );
                Err(Failure::usage(cause)
                    .remedy("give both the same number, so that no job is left out"))
            }
            (Separator::Link, Some(group)) => {
                group.push(arguments);
                Ok(())
            }
        }
    }

    /// The number of arguments of each job.
    pub(super) fn arguments(&self) -> usize {
        self.groups.iter().map(Vec::len).sum()
    }

    /// The number of combinations.
    pub(crate) fn len(&self) -> u64 {
        let lengths = self.groups.iter().map(|group| group[0].len() as u64);
        lengths.product()
    }

    pub(crate) fn next(&mut self) -> Option<Vec<&OsStr>> {
        if self.ended {
            return None;
        }
        let current = self.next.clone();
        self.advance();
        let groups = self.groups.iter().zip(current);
        let chosen = groups.flat_map(|(group, place)| group.iter().map(move |list| &*list[place]));
        Some(chosen.collect())
    }

    fn advance(&mut self) {
        for (place, group) in self.next.iter_mut().zip(&self.groups).rev() {
            *place += 1;
            if *place < group[0].len() {
                return;
            }
            *place = 0;
        }
        self.ended = true;
    }
}
