//! A list of arguments in memory.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::lines::{Line, Lines};
use crate::failure::Failure;

/// The largest size of a list in memory, with 8 bytes for each item.
pub(super) const SIZE_MAX: usize = 256 * 1024 * 1024;

/// Arguments, one after the other in one allocation.
#[derive(Debug, Default)]
pub(super) struct HeldList {
    bytes: Vec<u8>,
    /// Where each item ends.
    ends: Vec<usize>,
}

impl HeldList {
    pub(super) fn from_words(words: &[OsString]) -> Self {
        let mut list = Self::default();
        for word in words {
            list.push(word.as_bytes());
        }
        list
    }

    /// Reads a list to its end.
    pub(super) fn read(mut lines: Lines) -> Result<Self, Failure> {
        let mut list = Self::default();
        while let Some(line) = lines.next()? {
            match line {
                Line::Whole(item) => list.push(item),
                Line::Invalid(why, _) => {
                    let number = list.len() + 1;
                    let name = lines.name();
                    return Err(Failure::usage(format!("item {number} of {name}: {why}")));
                }
            }
            if list.size() > SIZE_MAX {
                let cause = format!(
                    "{} is larger than 256 MiB, and a list that is combined with others is held in memory",
                    lines.name()
                );
                return Err(Failure::usage(cause).remedy(
                    "make it the first list, without a list that is linked with it: that one is read while jobs run",
                ));
            }
        }
        Ok(list)
    }

    pub(super) fn push(&mut self, item: &[u8]) {
        self.bytes.extend_from_slice(item);
        self.ends.push(self.bytes.len());
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The length of all items, each with a terminator.
    pub(super) fn terminated_length(&self) -> usize {
        self.bytes.len() + self.len()
    }

    pub(super) fn size(&self) -> usize {
        self.bytes.len() + self.len() * size_of::<usize>()
    }

    pub(super) fn get(&self, index: usize) -> &OsStr {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        OsStr::from_bytes(&self.bytes[start..self.ends[index]])
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &OsStr> {
        (0..self.len()).map(|index| self.get(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_found_by_their_index() {
        let list = HeldList::from_words(&["".into(), "ab".into(), "".into(), "c".into()]);
        assert_eq!(list.iter().collect::<Vec<_>>(), ["", "ab", "", "c"]);
        assert_eq!((list.len(), list.terminated_length()), (4, 7));
    }
}
