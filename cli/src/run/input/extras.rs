//! What a job has besides its command, by options with placeholders.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::placeholder::ArgumentCount;
use super::source::ListOptions;
use super::word::Word;
use crate::failure::Failure;
use crate::run::job::Details;

/// The options with placeholders.
pub(super) struct Extras {
    tag: Option<Word>,
}

impl Extras {
    pub(super) fn parse(options: &ListOptions, count: ArgumentCount) -> Result<Self, Failure> {
        let tag = options.tag.as_ref();
        let tag = tag
            .map(|tag| Word::parse(tag.as_bytes(), count))
            .transpose()?;
        Ok(Self { tag })
    }

    /// The details of a job. For a line of a list of commands the line is its argument.
    pub(super) fn fill(&self, number: u64, arguments: &[&OsStr]) -> Option<Box<Details>> {
        let tag = self.tag.as_ref()?.fill_one(number, arguments);
        Some(Box::new(Details { tag: Some(tag) }))
    }
}
