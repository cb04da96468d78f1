//! The value of `--stdin`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::placeholder::ArgumentCount;
use super::word::Word;
use crate::failure::Failure;
use crate::run::job::JobInput;

/// What jobs read.
#[derive(Debug)]
pub(super) enum StdinTemplate {
    /// The arguments of the job, one per line.
    Arguments,
    /// A file, whose name may have placeholders.
    File(Word),
}

impl StdinTemplate {
    /// Parses the value. `None`: jobs read /dev/null.
    pub(super) fn parse(value: &OsString, count: ArgumentCount) -> Result<Option<Self>, Failure> {
        Ok(match value.as_bytes() {
            b"" => {
                let cause = "--stdin needs the name of a file, null, or arg";
                return Err(Failure::usage(cause));
            }
            b"null" => None,
            b"arg" => Some(Self::Arguments),
            file => Some(Self::File(Word::parse(file, count)?)),
        })
    }

    pub(super) fn fill(&self, number: u64, arguments: &[&OsStr]) -> JobInput {
        match self {
            Self::Arguments => {
                let mut text = Vec::new();
                for argument in arguments {
                    text.extend(argument.as_bytes());
                    text.push(b'\n');
                }
                JobInput::Text(text)
            }
            Self::File(name) => JobInput::File(name.fill_one(number, arguments)),
        }
    }
}
