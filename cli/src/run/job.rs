//! One job: its number, and what is to be executed.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::hash::Hasher;
use std::os::unix::ffi::OsStrExt;

use twox_hash::XxHash3_64;

/// A word as one would type it for a shell.
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
            Self::Words(_) => String::from_utf8_lossy(&self.bytes()).into_owned().into(),
        }
    }

    /// What `text` shows, and it does not show all of what is not UTF-8.
    pub(crate) fn bytes(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Line(line) | Self::Broken(_, line) => line.as_bytes().into(),
            Self::Words(words) => {
                let words: Vec<_> = words.iter().map(|word| quote(word)).collect();
                words.join(&b' ').into()
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

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn commands_are_as_one_would_type_them_byte_for_byte() {
        let words = [&b"rm"[..], b"a b", b"it's", b"\xff'"];
        let words = words.map(|word| OsString::from_vec(word.to_vec()));
        let order = Order::Words(words.to_vec());
        assert_eq!(
            *order.bytes(),
            br"rm 'a b' 'it'\''s' 'X'\'''".map(|byte| if byte == b'X' { 0xff } else { byte })
        );
        assert_eq!(
            order.text(),
            r"rm 'a b' 'it'\''s' 'X'\'''".replace('X', "\u{fffd}")
        );
    }
}
