//! A job: its number, its attempt, and the command that it executes.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::hash::Hasher;
use std::os::unix::ffi::OsStrExt;
use std::time::Instant;

use jiff::Timestamp;
use twox_hash::XxHash3_64;

/// Quotes a word as one would type it for a shell.
fn quote(word: &OsStr) -> Cow<'_, [u8]> {
    match word.to_str() {
        Some(word) => match shell_words::quote(word) {
            Cow::Borrowed(word) => word.as_bytes().into(),
            Cow::Owned(word) => word.into_bytes().into(),
        },
        None => {
            let parts: Vec<_> = word.as_bytes().split(|&byte| byte == b'\'').collect();
            [&b"'"[..], &parts.join(&br"'\''"[..]), b"'"]
                .concat()
                .into()
        }
    }
}

/// One attempt at a job.
#[derive(Debug)]
pub(crate) struct Job {
    /// The position in the list, from 1, independent of the shard.
    pub(crate) number: u64,
    /// From 1.
    pub(crate) attempt: u32,
    pub(crate) command: CommandSpec,
}

/// The command that a job executes.
#[derive(Debug)]
pub(crate) enum CommandSpec {
    /// A line for a shell.
    Line(OsString),
    /// A program and its arguments.
    Argv(Vec<OsString>),
    /// A line that cannot be a command, and the reason.
    Invalid(&'static str, OsString),
}

impl CommandSpec {
    /// The command as one would type it, for messages and records. Bytes that are not UTF-8 are
    /// replaced.
    pub(crate) fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Line(line) | Self::Invalid(_, line) => line.to_string_lossy(),
            Self::Argv(_) => String::from_utf8_lossy(&self.bytes()).into_owned().into(),
        }
    }

    /// The same as `text`, without loss.
    pub(crate) fn bytes(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Line(line) | Self::Invalid(_, line) => line.as_bytes().into(),
            Self::Argv(words) => {
                let words: Vec<_> = words.iter().map(|word| quote(word)).collect();
                words.join(&b' ').into()
            }
        }
    }

    /// A hash of the exact bytes, which detects a list that changed. It is the same in every
    /// version and on every machine.
    pub(crate) fn hash(&self) -> u64 {
        let mut hash = XxHash3_64::new();
        match self {
            Self::Line(line) | Self::Invalid(_, line) => hash.write(line.as_bytes()),
            Self::Argv(words) => {
                for word in words {
                    hash.write(word.as_bytes());
                    // No argument contains a NUL byte.
                    hash.write(&[0]);
                }
            }
        }
        hash.finish()
    }
}

/// The time at which a job was started, on the monotonic clock and on the wall clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StartTime {
    pub(crate) instant: Instant,
    pub(crate) time: Timestamp,
}

impl StartTime {
    pub(crate) fn now() -> Self {
        Self {
            instant: Instant::now(),
            time: Timestamp::now(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn commands_are_quoted_byte_for_byte() {
        let words = [&b"rm"[..], b"a b", b"it's", b"\xff'"];
        let words = words.map(|word| OsString::from_vec(word.to_vec()));
        let command = CommandSpec::Argv(words.to_vec());
        assert_eq!(
            *command.bytes(),
            br"rm 'a b' 'it'\''s' 'X'\'''".map(|byte| if byte == b'X' { 0xff } else { byte })
        );
        assert_eq!(
            command.text(),
            r"rm 'a b' 'it'\''s' 'X'\'''".replace('X', "\u{fffd}")
        );
    }
}
