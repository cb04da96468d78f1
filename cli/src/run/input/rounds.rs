//! The list several times (`--repeat`, `--until-fail`).

use std::collections::BTreeMap;
use std::ffi::OsStr;

use super::held_list::{HeldList, SIZE_MAX};
use crate::failure::Failure;

/// The jobs of the first round, for the next rounds.
#[derive(Debug)]
pub(super) struct Rounds {
    /// `None`: no limit.
    limit: Option<u32>,
    /// The current round, from 1.
    round: u32,
    /// The arguments of all jobs, and where those of each job end.
    arguments: HeldList,
    ends: Vec<usize>,
    /// Jobs that cannot be executed, and why. The start of the line is their argument.
    invalid: BTreeMap<usize, &'static str>,
    /// The next job of a later round.
    next: usize,
}

/// A job of a later round.
pub(super) enum Repeated<'a> {
    Arguments(Vec<&'a OsStr>),
    Invalid(&'static str, &'a OsStr),
}

impl Rounds {
    pub(super) fn new(limit: Option<u32>) -> Self {
        Self {
            limit,
            round: 1,
            arguments: HeldList::default(),
            ends: Vec::new(),
            invalid: BTreeMap::new(),
            next: 0,
        }
    }

    pub(super) fn round(&self) -> u32 {
        self.round
    }

    pub(super) fn limit(&self) -> Option<u32> {
        self.limit
    }

    pub(super) fn is_first(&self) -> bool {
        self.round == 1
    }

    /// The number of jobs in a round. In the first round it is the number so far.
    pub(super) fn len(&self) -> u64 {
        self.ends.len() as u64
    }

    /// Holds the arguments of a job of the first round.
    pub(super) fn hold<'a>(&mut self, arguments: impl IntoIterator<Item = &'a [u8]>) {
        for argument in arguments {
            self.arguments.push(argument);
        }
        self.ends.push(self.arguments.len());
    }

    /// Holds a job of the first round that cannot be executed.
    pub(super) fn hold_invalid(&mut self, why: &'static str, start: &[u8]) {
        self.invalid.insert(self.ends.len(), why);
        self.hold([start]);
    }

    /// Fails if the list is too long to be held.
    pub(super) fn check_size(&self) -> Result<(), Failure> {
        let size = self.arguments.size() + self.ends.len() * size_of::<usize>();
        if size <= SIZE_MAX {
            return Ok(());
        }
        let cause =
            "the list is larger than 256 MiB, and a list that is repeated is held in memory";
        Err(Failure::usage(cause)
            .remedy("run exitring several times instead, with the list in a file"))
    }

    /// The next job of a later round, and its position in the list, from 1.
    pub(super) fn next(&mut self) -> Option<(u64, Repeated<'_>)> {
        let index = self.next;
        let end = *self.ends.get(index)?;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.next += 1;
        let mut arguments = (start..end).map(|place| self.arguments.get(place));
        let job = match self.invalid.get(&index) {
            Some(why) => Repeated::Invalid(why, arguments.next().unwrap_or_default()),
            None => Repeated::Arguments(arguments.collect()),
        };
        Some((self.next as u64, job))
    }

    /// Begins the next round. `false`: there is none.
    pub(super) fn begin_next(&mut self) -> bool {
        if self.ends.is_empty() || self.limit.is_some_and(|limit| self.round >= limit) {
            return false;
        }
        // More rounds than this number can hold never end.
        self.round = self.round.saturating_add(1);
        self.next = 0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_rounds_have_the_jobs_of_the_first() {
        let mut rounds = Rounds::new(Some(2));
        rounds.hold([&b"a"[..], b"b c"]);
        rounds.hold_invalid("too long", b"xxx");
        rounds.hold([]);
        assert!(rounds.begin_next());
        let (position, job) = rounds.next().expect("the first job");
        assert_eq!(position, 1);
        assert!(matches!(job, Repeated::Arguments(arguments) if arguments == ["a", "b c"]));
        let job = rounds.next().expect("the second job").1;
        assert!(matches!(job, Repeated::Invalid("too long", start) if start == "xxx"));
        let (position, job) = rounds.next().expect("the third job");
        assert_eq!(position, 3);
        assert!(matches!(job, Repeated::Arguments(arguments) if arguments.is_empty()));
        assert!(rounds.next().is_none());
        assert!(!rounds.begin_next());
    }

    #[test]
    fn an_empty_list_is_not_repeated() {
        assert!(!Rounds::new(None).begin_next());
    }
}
