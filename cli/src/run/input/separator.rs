//! The words that begin a list of arguments in a template.

use std::ffi::OsString;
use std::path::PathBuf;

/// How a list belongs to the list before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Join {
    /// Each argument is combined with those of the other lists.
    Combine,
    /// Each argument belongs to that at the same place in the list before.
    Link,
}

/// What precedes lists of arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Separator {
    pub(super) join: Join,
    /// The words after it are files of arguments, and not arguments.
    pub(super) files: bool,
}

/// A list of arguments in a template.
#[derive(Debug)]
pub(super) struct ListSpec {
    pub(super) join: Join,
    pub(super) source: ListSource,
}

/// Where the arguments of a list come from.
#[derive(Debug)]
pub(super) enum ListSource {
    Words(Vec<OsString>),
    /// The items of a file; `-` is standard input.
    File(PathBuf),
}

impl Separator {
    pub(super) fn parse(word: &[u8]) -> Option<Self> {
        let (join, files) = match word {
            b":::" => (Join::Combine, false),
            b":::+" => (Join::Link, false),
            b"::::" => (Join::Combine, true),
            b"::::+" => (Join::Link, true),
            _ => return None,
        };
        Some(Self { join, files })
    }

    /// Adds the lists that the words after the separator make.
    pub(super) fn add_lists(self, words: Vec<OsString>, lists: &mut Vec<ListSpec>) {
        let join = self.join;
        if self.files {
            lists.extend(words.into_iter().map(|file| ListSpec {
                join,
                source: ListSource::File(file.into()),
            }));
        } else {
            let source = ListSource::Words(words);
            lists.push(ListSpec { join, source });
        }
    }
}
