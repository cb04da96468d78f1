//! A word with placeholders for arguments.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::foreign_placeholders;
use super::placeholder::{self, ArgumentCount, Placeholder};
use crate::failure::Failure;
use crate::run::command_spec::SlottedWord;

#[derive(Debug)]
pub(super) struct Word(Vec<Part>);

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Text(Vec<u8>),
    Placeholder(Placeholder),
}

impl Word {
    /// Splits a word into text and placeholders. Each placeholder must have an argument. A
    /// backslash before a placeholder makes it literal text.
    pub(super) fn parse(word: &[u8], count: ArgumentCount) -> Result<Self, Failure> {
        let mut parts = Vec::new();
        let mut text = Vec::new();
        let mut at = 0;
        while at < word.len() {
            let rest = &word[at..];
            if let Some(quoted) = rest.strip_prefix(b"\\").and_then(spelling) {
                text.extend(quoted);
                at += 1 + quoted.len();
            } else if let Some((name, after)) = placeholder::at_start(rest)
                && !(placeholder::has_modifier(name)
                    && belongs_to_other_syntax(word, at, rest.len() - after.len()))
            {
                if !text.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut text)));
                }
                parts.push(Part::Placeholder(Placeholder::parse(name, count)?));
                at = word.len() - after.len();
            } else if let Some(spelling) = foreign_placeholders::placeholder(rest)
                && !belongs_to_other_syntax(word, at, spelling.len())
            {
                let place = String::from_utf8_lossy(spelling);
                let remedy = format!(
                    "{}; \\{place} is {place} literally",
                    foreign_placeholders::replacement(spelling)
                );
                return Err(Failure::usage(format!(
                    "{place} is not a placeholder, unlike in GNU parallel or rush"
                ))
                .remedy(remedy));
            } else {
                text.push(word[at]);
                at += 1;
            }
        }
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        Ok(Self(parts))
    }

    fn placeholders(&self) -> impl Iterator<Item = Placeholder> {
        self.0.iter().filter_map(|part| match part {
            Part::Placeholder(placeholder) => Some(*placeholder),
            Part::Text(_) => None,
        })
    }

    pub(super) fn has_placeholder(&self) -> bool {
        self.placeholders().next().is_some()
    }

    /// Whether it has a placeholder for the slot.
    pub(super) fn is_slotted(&self) -> bool {
        self.placeholders().any(|it| it == Placeholder::Slot)
    }

    /// Passes on the words that this one makes for a job. `{}` stands for all arguments, each of
    /// which is a word of its own, as with `"$@"` in a shell: text before it belongs to the first,
    /// text after it to the last.
    pub(super) fn fill(
        &self,
        number: u64,
        arguments: &[&OsStr],
        add_word: &mut impl FnMut(SlottedWord),
    ) {
        let mut filled = SlottedWord::default();
        for part in &self.0 {
            match part {
                Part::Text(text) => filled.text.extend(text),
                Part::Placeholder(Placeholder::Number) => {
                    filled.text.extend(number.to_string().bytes());
                }
                Part::Placeholder(Placeholder::Slot) => filled.slots.push(filled.text.len()),
                Part::Placeholder(Placeholder::One(nth, part)) => {
                    // `parse` has checked that a job may have so many arguments.
                    if let Some(argument) = arguments.get(*nth) {
                        filled.text.extend(part.of(argument.as_bytes()));
                    }
                }
                Part::Placeholder(Placeholder::All(part)) => {
                    for (index, argument) in arguments.iter().enumerate() {
                        if index > 0 {
                            add_word(std::mem::take(&mut filled));
                        }
                        filled.text.extend(part.of(argument.as_bytes()));
                    }
                }
            }
        }
        add_word(filled);
    }
}

impl Word {
    /// The one word that this makes for a job. `{}` is all arguments with spaces between them.
    pub(super) fn fill_one(&self, number: u64, arguments: &[&OsStr]) -> SlottedWord {
        let mut joined: Option<SlottedWord> = None;
        self.fill(number, arguments, &mut |word| match &mut joined {
            None => joined = Some(word),
            Some(joined) => {
                joined.text.push(b' ');
                let start = joined.text.len();
                joined
                    .slots
                    .extend(word.slots.iter().map(|place| place + start));
                joined.text.extend(word.text);
            }
        });
        joined.unwrap_or_default()
    }
}

/// The spelling of a placeholder at the start of the text, of exitring or of another tool.
fn spelling(text: &[u8]) -> Option<&[u8]> {
    let own = placeholder::at_start(text).map(|(name, _)| &text[..name.len() + 2]);
    own.or_else(|| foreign_placeholders::placeholder(text))
}

/// Whether the text belongs to another syntax: `${...}` to a shell, `{{...}}` to a template
/// language of the program.
fn belongs_to_other_syntax(word: &[u8], at: usize, length: usize) -> bool {
    let before = at.checked_sub(1).map(|before| word[before]);
    let after = word.get(at + length);
    before == Some(b'$') || before == Some(b'{') && after == Some(&b'}')
}
