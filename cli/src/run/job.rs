//! One job: its number, and what is to be executed.

use std::borrow::Cow;
use std::ffi::OsString;
use std::hash::Hasher;
use std::os::unix::ffi::OsStrExt;

use twox_hash::XxHash3_64;

/// One job, for one attempt at it.
#[derive(Debug)]
pub(crate) struct Job {
    /// From 1, in the order of the list, whatever the shard.
    pub(crate) number: u64,
    /// From 1.
    pub(crate) attempt: u32,
    pub(crate) order: Order,
}

/// What is to be executed.
#[derive(Debug)]
pub(crate) enum Order {
    /// A line for a shell.
    Line(OsString),
    /// A program and its arguments.
    Words(Vec<OsString>),
    /// A line that can be no command, and why.
    Broken(&'static str, OsString),
}

impl Order {
    /// For people and records, as one would type it.
    pub(crate) fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Line(line) | Self::Broken(_, line) => line.to_string_lossy(),
            Self::Words(words) => {
                let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
                shell_words::join(words).into()
            }
        }
    }

    /// Of the very bytes, so that a list that changed is noticed. The same in every version, on every machine.
    pub(crate) fn hash(&self) -> u64 {
        let mut hash = XxHash3_64::new();
        match self {
            Self::Line(line) | Self::Broken(_, line) => hash.write(line.as_bytes()),
            Self::Words(words) => {
                for word in words {
                    hash.write(word.as_bytes());
                    // No argument contains it.
                    hash.write(&[0]);
                }
            }
        }
        hash.finish()
    }
}
