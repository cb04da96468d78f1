//! What a job has besides its command, by options with placeholders.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::job_stdin::StdinTemplate;
use super::placeholder::ArgumentCount;
use super::source::ListOptions;
use super::word::Word;
use crate::failure::Failure;
use crate::run::claim::Claim;
use crate::run::job::Details;

/// The options with placeholders.
pub(super) struct Extras {
    tag: Option<Word>,
    stdin: Option<StdinTemplate>,
    name: Option<Word>,
}

impl Extras {
    pub(super) fn parse(options: &ListOptions, count: ArgumentCount) -> Result<Self, Failure> {
        let tag = options.tag.as_ref();
        let tag = tag
            .map(|tag| Word::parse(tag.as_bytes(), count))
            .transpose()?;
        let stdin = options.stdin.as_ref();
        let stdin = stdin
            .map(|value| StdinTemplate::parse(value, count))
            .transpose()?;
        // The arguments.
        let name = options.names.then(|| Word::parse(b"{}", count));
        Ok(Self {
            tag,
            stdin: stdin.flatten(),
            name: name.transpose()?,
        })
    }

    /// The details of a job of a list of commands.
    pub(super) fn fill_line(
        &self,
        number: u64,
        line: &OsStr,
        claim: Option<Claim>,
    ) -> Option<Box<Details>> {
        let details = self.fill(number, &[line]);
        if claim.is_none() {
            return details;
        }
        let mut details = details.unwrap_or_default();
        details.claim = claim;
        Some(details)
    }

    /// The details of a job. For a line of a list of commands the line is its argument.
    pub(super) fn fill(&self, number: u64, arguments: &[&OsStr]) -> Option<Box<Details>> {
        if self.tag.is_none() && self.stdin.is_none() && self.name.is_none() {
            return None;
        }
        let tag = self.tag.as_ref();
        let stdin = self.stdin.as_ref();
        Some(Box::new(Details {
            tag: tag.map(|tag| tag.fill_one(number, arguments)),
            input: stdin.map(|stdin| stdin.fill(number, arguments)),
            name: self
                .name
                .as_ref()
                .map(|name| name.fill_one(number, arguments)),
            ..Details::default()
        }))
    }
}
