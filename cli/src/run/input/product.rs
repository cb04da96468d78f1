//! The arguments of a template: lists that are combined or linked.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::held_list::HeldList;
use super::lines::{Line, Lines};
use super::separator::Join;
use crate::failure::Failure;

/// The combinations of all lists, each of which is a job. The last list varies fastest.
#[derive(Default)]
pub(crate) struct Product {
    /// The first list, if it is read while jobs run. It varies slowest.
    streamed: Option<Streamed>,
    /// Lists in memory. Lists that are linked with one another have the same length and make a
    /// group.
    groups: Vec<Vec<HeldList>>,
    /// The place of the next argument in each group.
    next: Vec<usize>,
    ended: bool,
}

struct Streamed {
    lines: Lines,
    /// The item that is combined with the other lists.
    item: Vec<u8>,
    has_item: bool,
}

/// The arguments of a job, or an item that cannot be an argument.
pub(crate) enum Combination<T> {
    Arguments(T),
    Invalid(&'static str, OsString),
}

impl Product {
    /// Begins with a list that is read while jobs run.
    pub(super) fn of_stream(lines: Lines) -> Self {
        Self {
            streamed: Some(Streamed {
                lines,
                item: Vec::new(),
                has_item: false,
            }),
            ..Self::default()
        }
    }

    /// Adds a list.
    pub(super) fn add(&mut self, join: Join, list: HeldList) -> Result<(), Failure> {
        match (join, self.groups.last_mut()) {
            (Join::Combine, _) => {
                self.ended |= list.len() == 0;
                self.groups.push(vec![list]);
                self.next.push(0);
                Ok(())
            }
            (Join::Link, None) => {
                let cause = "no list before :::+ or ::::+, which link their arguments with those of the list before";
                Err(Failure::usage(cause).remedy("write ::: or :::: for the first list"))
            }
            (Join::Link, Some(group)) if group[0].len() != list.len() => {
                let cause = format!(
                    "a list after :::+ or ::::+ has {} arguments, and the list before has {}",
                    list.len(),
                    group[0].len()
                );
                Err(Failure::usage(cause)
                    .remedy("give both the same number, so that no job is left out"))
            }
            (Join::Link, Some(group)) => {
                group.push(list);
                Ok(())
            }
        }
    }

    /// Whether arguments are typed at a terminal while jobs run.
    pub(crate) fn reads_terminal(&self) -> bool {
        let streamed = self.streamed.as_ref();
        streamed.is_some_and(|streamed| streamed.lines.is_terminal())
    }

    /// The number of combinations, if all lists are in memory.
    pub(crate) fn len(&self) -> Option<u64> {
        let lengths = self.groups.iter().map(|group| group[0].len() as u64);
        let all = lengths.fold(1, u64::saturating_mul);
        self.streamed.is_none().then_some(all)
    }

    /// The list that is read while jobs run.
    pub(crate) fn streamed(&self) -> Option<&Lines> {
        self.streamed.as_ref().map(|streamed| &streamed.lines)
    }

    /// Whether the next combination can be made without blocking.
    pub(crate) fn has_buffered_item(&self) -> bool {
        let streamed = self.streamed.as_ref();
        streamed.is_none_or(|streamed| streamed.has_item || streamed.lines.has_buffered_item())
    }

    /// Uses the arguments of the next job.
    pub(crate) fn next<T>(
        &mut self,
        use_arguments: impl FnOnce(&[&OsStr]) -> T,
    ) -> Result<Option<Combination<T>>, Failure> {
        if self.ended {
            return Ok(None);
        }
        if let Some(Streamed {
            lines,
            item,
            has_item,
        }) = &mut self.streamed
            && !*has_item
        {
            match lines.next()? {
                None => return Ok(None),
                Some(Line::Invalid(why, start)) => {
                    let start = OsString::from_vec(start.to_vec());
                    return Ok(Some(Combination::Invalid(why, start)));
                }
                Some(Line::Whole(line)) if self.groups.is_empty() => {
                    let arguments = use_arguments(&[OsStr::from_bytes(line)]);
                    return Ok(Some(Combination::Arguments(arguments)));
                }
                Some(Line::Whole(line)) => {
                    item.clear();
                    item.extend_from_slice(line);
                    *has_item = true;
                }
            }
        }
        let streamed = self.streamed.as_ref();
        let first = streamed.map(|streamed| OsStr::from_bytes(&streamed.item));
        let groups = self.groups.iter().zip(&self.next);
        let others =
            groups.flat_map(|(group, &place)| group.iter().map(move |list| list.get(place)));
        let arguments: Vec<_> = first.into_iter().chain(others).collect();
        let arguments = use_arguments(&arguments);
        self.advance();
        Ok(Some(Combination::Arguments(arguments)))
    }

    fn advance(&mut self) {
        for (place, group) in self.next.iter_mut().zip(&self.groups).rev() {
            *place += 1;
            if *place < group[0].len() {
                return;
            }
            *place = 0;
        }
        match &mut self.streamed {
            Some(streamed) => streamed.has_item = false,
            None => self.ended = true,
        }
    }
}
