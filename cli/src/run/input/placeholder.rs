//! The placeholders of a template, and what they stand for.

use crate::failure::Failure;

/// How many arguments a job has.
#[derive(Clone, Copy, Debug)]
pub(super) enum ArgumentCount {
    /// One of each list.
    OfLists(usize),
    /// Up to as many, of one list.
    UpTo(usize),
}

/// What a placeholder stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placeholder {
    /// `{}`: all arguments.
    All(PathPart),
    /// `{#}`: the job's number.
    Number,
    /// `{%}`: the job's slot, which is known only when the job starts.
    Slot,
    /// `{1}` and so on: one argument, counted from 0.
    One(usize, PathPart),
}

/// The part of an argument, as GNU parallel cuts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PathPart {
    /// `{}`
    Whole,
    /// `{.}`: without the extension.
    WithoutExtension,
    /// `{/}`: the name without its directory.
    FileName,
    /// `{//}`: the directory.
    Directory,
    /// `{/.}`: the name without its directory and extension.
    Stem,
}

impl PathPart {
    fn from_modifier(modifier: &[u8]) -> Option<Self> {
        Some(match modifier {
            b"" => Self::Whole,
            b"." => Self::WithoutExtension,
            b"/" => Self::FileName,
            b"//" => Self::Directory,
            b"/." => Self::Stem,
            _ => return None,
        })
    }

    pub(super) fn of(self, argument: &[u8]) -> &[u8] {
        match self {
            Self::Whole => argument,
            Self::WithoutExtension => without_extension(argument),
            Self::FileName => split(argument).1,
            Self::Directory => directory(argument),
            Self::Stem => without_extension(split(argument).1),
        }
    }
}

impl Placeholder {
    /// Parses the text between the braces.
    pub(super) fn parse(name: &[u8], count: ArgumentCount) -> Result<Self, Failure> {
        match name {
            b"#" => return Ok(Self::Number),
            b"%" => return Ok(Self::Slot),
            _ => {}
        }
        let (position, modifier) = split_position(name);
        // `at_start` has checked the modifier.
        let part = PathPart::from_modifier(modifier).unwrap_or(PathPart::Whole);
        if position.is_empty() {
            return Ok(Self::All(part));
        }
        let position = std::str::from_utf8(position).unwrap_or_default();
        let (arguments, one_for) = match count {
            ArgumentCount::OfLists(lists) => (lists, "list"),
            ArgumentCount::UpTo(max) => (max, "argument of a job"),
        };
        match position.parse() {
            Ok(nth) if (1..=arguments).contains(&nth) => Ok(Self::One(nth - 1, part)),
            _ => {
                let name = String::from_utf8_lossy(name);
                let cause = format!(
                    "{{{name}}} is not a placeholder: there are {{1}} to {{{arguments}}}, one for each {one_for}"
                );
                Err(Failure::usage(cause).remedy(format!(
                    "{{}} is all arguments, {{#}} is the job's number; \\{{{name}}} is {{{name}}} literally"
                )))
            }
        }
    }
}

/// The text between the braces of a placeholder at the start of the text, and the text after it.
pub(super) fn at_start(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let inner = text.strip_prefix(b"{")?;
    let end = inner.iter().position(|&byte| byte == b'}')?;
    let (name, rest) = (&inner[..end], &inner[end + 1..]);
    let known =
        matches!(name, b"#" | b"%") || PathPart::from_modifier(split_position(name).1).is_some();
    known.then_some((name, rest))
}

/// Whether it is more than a position, so that it may belong to another syntax.
pub(super) fn has_modifier(name: &[u8]) -> bool {
    name != b"#" && !split_position(name).1.is_empty()
}

fn split_position(name: &[u8]) -> (&[u8], &[u8]) {
    let digits = name.iter().take_while(|byte| byte.is_ascii_digit()).count();
    name.split_at(digits)
}

/// Splits after the last slash.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let slash = path.iter().rposition(|&byte| byte == b'/');
    path.split_at(slash.map_or(0, |slash| slash + 1))
}

/// Removes the last dot of the last component, and what follows it.
fn without_extension(path: &[u8]) -> &[u8] {
    let start = split(path).0.len();
    match path[start..].iter().rposition(|&byte| byte == b'.') {
        Some(dot) => &path[..start + dot],
        None => path,
    }
}

/// The directory, as dirname(1) prints it.
fn directory(path: &[u8]) -> &[u8] {
    let (directory, name) = split(path);
    let directory = without_slashes(directory);
    let directory = match name.is_empty() {
        // The slashes at the end of a path do not count.
        true => without_slashes(split(directory).0),
        false => directory,
    };
    match directory.is_empty() {
        true => b".",
        false => directory,
    }
}

/// Removes the slashes at the end, but not the first byte.
fn without_slashes(path: &[u8]) -> &[u8] {
    let mut end = path.len();
    while end > 1 && path[end - 1] == b'/' {
        end -= 1;
    }
    &path[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What GNU parallel 20221122 prints; `cli/tests/from_parallel.rs` runs it.
    #[test]
    fn parts_of_a_path_are_those_of_gnu_parallel() {
        for (path, without_extension, name, directory, stem) in [
            ("a.x", "a", "a.x", ".", "a"),
            (".bashrc", "", ".bashrc", ".", ""),
            ("a.", "a", "a.", ".", "a"),
            ("dir.d/file", "dir.d/file", "file", "dir.d", "file"),
            ("a/", "a/", "", ".", ""),
            ("/", "/", "", "/", ""),
            ("/a", "/a", "a", "/", "a"),
            ("a//b", "a//b", "b", "a", "b"),
            ("a/b//", "a/b//", "", "a", ""),
            ("", "", "", ".", ""),
            ("a.tar.gz", "a.tar", "a.tar.gz", ".", "a.tar"),
            ("..", ".", "..", ".", "."),
            ("x/.y", "x/", ".y", "x", ""),
            ("//", "//", "", "/", ""),
            ("//a", "//a", "a", "/", "a"),
        ] {
            let of = |part: PathPart| String::from_utf8_lossy(part.of(path.as_bytes()));
            assert_eq!(of(PathPart::Whole), path);
            assert_eq!(of(PathPart::WithoutExtension), without_extension, "{path}");
            assert_eq!(of(PathPart::FileName), name, "{path}");
            assert_eq!(of(PathPart::Directory), directory, "{path}");
            assert_eq!(of(PathPart::Stem), stem, "{path}");
        }
    }
}
