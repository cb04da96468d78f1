//! The command of a job, as the list or the template gives it.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::hash::Hasher;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use twox_hash::XxHash3_64;

/// What stands for the slot of a job that has none yet.
const NO_SLOT: &[u8] = b"{%}";

/// The command that a job executes.
#[derive(Debug)]
pub(crate) enum CommandSpec {
    /// A line for a shell.
    Line(OsString),
    /// A program and its arguments.
    Argv(Vec<OsString>),
    /// The same, with the number of the slot in some of them.
    SlottedArgv(Vec<SlottedWord>),
    /// A line that cannot be a command, and the reason.
    Invalid(&'static str, OsString),
}

/// A word with places for the number of the job's slot. The slot is known only when the job starts.
#[derive(Debug, Default)]
pub(crate) struct SlottedWord {
    /// The word without the slot.
    pub(crate) text: Vec<u8>,
    /// Where in the text the slot belongs, in ascending order.
    pub(crate) slots: Vec<usize>,
}

impl SlottedWord {
    /// The word of a job in this slot. With 0 the place of the slot shows.
    pub(crate) fn with_slot(&self, slot: u32) -> Vec<u8> {
        let number = slot.to_string();
        let slot = match slot {
            0 => NO_SLOT,
            _ => number.as_bytes(),
        };
        let mut word = Vec::with_capacity(self.text.len() + self.slots.len() * slot.len());
        let mut copied = 0;
        for &place in &self.slots {
            word.extend(&self.text[copied..place]);
            word.extend(slot);
            copied = place;
        }
        word.extend(&self.text[copied..]);
        word
    }
}

/// The words of a job in this slot.
pub(crate) fn with_slot(words: &[SlottedWord], slot: u32) -> Vec<OsString> {
    let words = words.iter().map(|word| word.with_slot(slot));
    words.map(OsString::from_vec).collect()
}

impl CommandSpec {
    /// The command as one would type it, for messages and records. Bytes that are not UTF-8 are
    /// replaced.
    pub(crate) fn text(&self, slot: u32) -> Cow<'_, str> {
        match self {
            Self::Line(line) | Self::Invalid(_, line) => line.to_string_lossy(),
            Self::Argv(_) | Self::SlottedArgv(_) => String::from_utf8_lossy(&self.bytes(slot))
                .into_owned()
                .into(),
        }
    }

    /// The same as `text`, without loss.
    pub(crate) fn bytes(&self, slot: u32) -> Cow<'_, [u8]> {
        match self {
            Self::Line(line) | Self::Invalid(_, line) => line.as_bytes().into(),
            Self::Argv(words) => quote_all(words).into(),
            Self::SlottedArgv(words) => quote_all(&with_slot(words, slot)).into(),
        }
    }

    /// About how much memory it takes beside the value itself.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Line(line) | Self::Invalid(_, line) => line.len(),
            Self::Argv(words) => {
                let words = words.iter().map(|word| word.len() + size_of::<OsString>());
                words.sum()
            }
            Self::SlottedArgv(words) => {
                let size = |word: &SlottedWord| word.text.len() + size_of_val(&*word.slots);
                let words = words
                    .iter()
                    .map(|word| size(word) + size_of::<SlottedWord>());
                words.sum()
            }
        }
    }

    /// A hash of the exact bytes, which detects a list that changed. It is the same in every
    /// version, on every machine, and in every slot.
    pub(crate) fn hash(&self) -> u64 {
        let mut hash = XxHash3_64::new();
        let mut write_word = |word: &[u8]| {
            hash.write(word);
            // No argument contains a NUL byte.
            hash.write(&[0]);
        };
        match self {
            Self::Line(line) | Self::Invalid(_, line) => hash.write(line.as_bytes()),
            Self::Argv(words) => words.iter().for_each(|word| write_word(word.as_bytes())),
            Self::SlottedArgv(words) => {
                words.iter().for_each(|word| write_word(&word.with_slot(0)));
            }
        }
        hash.finish()
    }
}

fn quote_all(words: &[OsString]) -> Vec<u8> {
    let words: Vec<_> = words.iter().map(|word| quote(word)).collect();
    words.join(&b' ')
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_quoted_byte_for_byte() {
        let words = [&b"rm"[..], b"a b", b"it's", b"\xff'"];
        let words = words.map(|word| OsString::from_vec(word.to_vec()));
        let command = CommandSpec::Argv(words.to_vec());
        assert_eq!(
            *command.bytes(0),
            br"rm 'a b' 'it'\''s' 'X'\'''".map(|byte| if byte == b'X' { 0xff } else { byte })
        );
        assert_eq!(
            command.text(0),
            r"rm 'a b' 'it'\''s' 'X'\'''".replace('X', "\u{fffd}")
        );
    }

    #[test]
    fn the_slot_is_filled_in_and_does_not_change_the_hash() {
        let word = SlottedWord {
            text: b"ab".to_vec(),
            slots: vec![0, 1, 1, 2],
        };
        assert_eq!(word.with_slot(12), b"12a1212b12");
        assert_eq!(word.with_slot(0), b"{%}a{%}{%}b{%}");
        let command = CommandSpec::SlottedArgv(vec![word]);
        assert_eq!(command.text(3), "3a33b3");
        let literal = CommandSpec::Argv(vec!["{%}a{%}{%}b{%}".into()]);
        assert_eq!(command.hash(), literal.hash());
    }
}
