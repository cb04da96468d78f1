//! `COMMAND {} ::: ARGUMENTS`: one command for each argument.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::foreign_placeholders;
use super::placeholder::{self, Placeholder};
use super::product::{Product, Separator};
use crate::failure::Failure;
use crate::run::command_spec::{CommandSpec, SlottedWord};

/// A command with placeholders for arguments.
#[derive(Debug)]
pub(crate) struct Template {
    words: Vec<Word>,
    /// No word has a placeholder, so the arguments are appended.
    append: bool,
    /// A word has a placeholder for the slot.
    slotted: bool,
}

type Word = Vec<Part>;

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Text(Vec<u8>),
    Placeholder(Placeholder),
}

/// Parses the words after `--`.
pub(crate) fn parse(words: Vec<OsString>) -> Result<(Template, Option<Product>), Failure> {
    if let Some((separator, remedy)) = words
        .iter()
        .find_map(|word| foreign_placeholders::separator(word.as_bytes()))
    {
        let literally = format!("{remedy}; \\{separator} is {separator} literally");
        return Err(Failure::usage(format!("{separator} is not supported")).remedy(literally));
    }
    let mut lists = words.split_inclusive(|word| separator(word.as_bytes()).is_some());
    let (command, mut next) = split_separator(lists.next().unwrap_or_default());
    if command.first().is_none_or(|program| program.is_empty()) {
        return Err(Failure::usage("no command before :::")
            .remedy("exitring run -- COMMAND {} ::: ARGUMENTS"));
    }
    let mut product = Product::default();
    while let Some(separator) = next {
        let (arguments, after) = split_separator(lists.next().unwrap_or_default());
        product.add(separator, arguments)?;
        next = after;
    }
    // Lines provide one argument at a time.
    let template = Template::new(&command, product.arguments().max(1))?;
    Ok((template, (product.arguments() > 0).then_some(product)))
}

fn separator(word: &[u8]) -> Option<Separator> {
    match word {
        b":::" => Some(Separator::Combine),
        b":::+" => Some(Separator::Link),
        _ => None,
    }
}

/// Splits off the separator at the end.
fn split_separator(words: &[OsString]) -> (Vec<OsString>, Option<Separator>) {
    let after = words.last().and_then(|word| separator(word.as_bytes()));
    let words = &words[..words.len() - usize::from(after.is_some())];
    (words.iter().map(unquote_separator).collect(), after)
}

/// Replaces `\:::` by the literal word `:::`, and other separators likewise.
fn unquote_separator(word: &OsString) -> OsString {
    match word.as_bytes().strip_prefix(b"\\") {
        Some(quoted)
            if separator(quoted).is_some() || foreign_placeholders::separator(quoted).is_some() =>
        {
            OsStr::from_bytes(quoted).to_owned()
        }
        _ => word.clone(),
    }
}

impl Template {
    /// `arguments` is the number of arguments of each job.
    fn new(words: &[OsString], arguments: usize) -> Result<Self, Failure> {
        let words = words
            .iter()
            .map(|word| parse_word(word.as_bytes(), arguments));
        let words = words.collect::<Result<Vec<_>, _>>()?;
        let is_placeholder = |part: &Part| matches!(part, Part::Placeholder(_));
        let append = !words.iter().flatten().any(is_placeholder);
        let slotted = words
            .iter()
            .flatten()
            .any(|part| *part == Part::Placeholder(Placeholder::Slot));
        Ok(Self {
            words,
            append,
            slotted,
        })
    }

    /// The command for these arguments.
    pub(crate) fn fill(&self, number: u64, arguments: &[&OsStr]) -> CommandSpec {
        let filled = self.words.iter().map(|word| fill(word, number, arguments));
        if self.slotted {
            return CommandSpec::SlottedArgv(filled.collect());
        }
        let filled = filled.map(|word| OsString::from_vec(word.text));
        let appended = arguments
            .iter()
            .filter(|_| self.append)
            .map(|&argument| argument.to_owned());
        CommandSpec::Argv(filled.chain(appended).collect())
    }
}

/// Splits a word into text and placeholders. Each placeholder must have an argument. A backslash
/// before a placeholder makes it literal text.
fn parse_word(word: &[u8], arguments: usize) -> Result<Word, Failure> {
    let mut parts = Word::new();
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
            parts.push(Part::Placeholder(Placeholder::parse(name, arguments)?));
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
    Ok(parts)
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

fn fill(word: &Word, number: u64, arguments: &[&OsStr]) -> SlottedWord {
    let mut filled = SlottedWord::default();
    for part in word {
        match part {
            Part::Text(text) => filled.text.extend(text),
            Part::Placeholder(placeholder) => {
                placeholder.append_to(&mut filled, number, arguments);
            }
        }
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::command_spec::with_slot;

    fn commands(words: &str) -> Vec<String> {
        let words = words.split(' ').map(OsString::from).collect();
        let (template, product) = parse(words).expect("a template");
        let mut product = product.expect("arguments");
        let mut commands = Vec::new();
        while let Some(arguments) = product.next() {
            let filled = template.fill(commands.len() as u64 + 1, &arguments);
            let words = match filled {
                CommandSpec::Argv(words) => words,
                CommandSpec::SlottedArgv(words) => with_slot(&words, 7),
                other => panic!("{other:?}"),
            };
            commands.push(words.join(OsStr::new("|")).into_string().expect("UTF-8"));
        }
        assert_eq!(commands.len() as u64, product.len());
        commands
    }

    #[test]
    fn placeholders_are_filled_in_every_word() {
        assert_eq!(commands("a {}.x -{}- ::: 1 2"), ["a|1.x|-1-", "a|2.x|-2-"]);
        assert_eq!(commands("a {#} ::: x y"), ["a|1", "a|2"]);
        assert_eq!(
            commands("a {%}-{%}{} ${%} {{%}} ::: x"),
            ["a|7-7x|${%}|{{%}}"]
        );
        assert_eq!(commands("a {b} { ::: 1"), ["a|{b}|{|1"]);
    }

    #[test]
    fn without_a_placeholder_arguments_are_appended() {
        assert_eq!(commands("a -v ::: 1 2"), ["a|-v|1", "a|-v|2"]);
    }

    #[test]
    fn several_lists_are_combined() {
        assert_eq!(
            commands("a ::: 1 2 ::: x y"),
            ["a|1|x", "a|1|y", "a|2|x", "a|2|y"]
        );
        assert_eq!(commands("a {2}{1} ::: 1 2 ::: x"), ["a|x1", "a|x2"]);
        assert_eq!(commands("a {} ::: 1 ::: x"), ["a|1 x"]);
        assert_eq!(
            commands("a {3}{2}{1} ::: 1 2 :::+ x y ::: p q"),
            ["a|px1", "a|qx1", "a|py2", "a|qy2"]
        );
        assert_eq!(commands("a ::: p ::: 1 2 :::+ x y"), ["a|p|1|x", "a|p|2|y"]);
    }

    #[test]
    fn a_modifier_names_a_part_of_each_argument() {
        assert_eq!(
            commands("a {.} {/} x{//}y {/.} ::: d/b.c"),
            ["a|d/b|b.c|xdy|b"]
        );
        assert_eq!(
            commands("a {.} {1/} {2//} {2/.} ::: d/b.c ::: e.f"),
            ["a|d/b e|b.c|.|e"]
        );
        assert_eq!(
            commands(r"a {{.}} ${.} \{1.} {} ::: x"),
            [r"a|{{.}}|${.}|{1.}|x"]
        );
    }

    #[test]
    fn a_backslash_makes_a_placeholder_literal() {
        assert_eq!(commands(r"a \{} \{1} {} ::: x"), ["a|{}|{1}|x"]);
        assert_eq!(
            commands(r"a \{.}{} \{9} \::: ::: x \:::: \:::+"),
            ["a|{.}x|{9}|:::", "a|{.}::::|{9}|:::", "a|{.}:::+|{9}|:::"]
        );
        assert_eq!(commands(r"a \{b} \n \ ::: x"), [r"a|\{b}|\n|\|x"]);
    }

    #[test]
    fn a_template_requires_a_command() {
        parse(vec![":::".into(), "a".into()]).expect_err("no command");
    }

    #[test]
    fn placeholders_without_an_argument_are_refused() {
        for words in [
            "a {0} ::: 1",
            "a {2} ::: 1",
            "a {3} ::: 1 ::: 2",
            "a {2}",
            "a {99999999999999999999} ::: 1",
            "a :::",
            "a ::: 1 :::",
            "a ::: 1 :::+",
            "a ::: 1 :::+ 2 3",
            "a ::: 1 2 :::+ 3",
            "a :::+ 1",
            "a :::: f",
            "a x{..}y ::: 1",
            "a ${x}{##} ::: 1",
            "a {2.} ::: 1",
        ] {
            let words = words.split(' ').map(OsString::from).collect::<Vec<_>>();
            parse(words.clone()).expect_err(&format!("{words:?}"));
        }
        for words in [
            "a {1}",
            "a {2}{1} ::: 1 ::: 2",
            "a {#}",
            "a {%}",
            "a {b}",
            "a {{.}} ::: 1",
            "a ${.} ${1%.*} ::: 1",
            "a ::: {.} {/}",
        ] {
            parse(words.split(' ').map(OsString::from).collect()).expect(words);
        }
    }
}
