//! `COMMAND {} ::: ARGUMENTS`: one command for each argument.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use super::placeholder::ArgumentCount;
use super::separator::{ListSpec, Separator};
use super::word::Word;
use crate::failure::Failure;
use crate::run::command_spec::CommandSpec;

/// A command with placeholders for arguments.
#[derive(Debug)]
pub(crate) struct Template {
    words: Vec<Word>,
    /// No word has a placeholder, so the arguments are appended.
    append: bool,
    /// A word has a placeholder for the slot.
    slotted: bool,
}

/// Parses the words after `--`, up to the lists. With `max_args` the arguments of a job come from
/// one list, and are at most as many.
pub(crate) fn parse(
    words: &[OsString],
    max_args: Option<usize>,
) -> Result<(Template, ArgumentCount, Vec<ListSpec>), Failure> {
    let mut rest = words.split_inclusive(|word| Separator::parse(word.as_bytes()).is_some());
    let (command, mut next) = split_separator(rest.next().unwrap_or_default());
    if command.first().is_none_or(|program| program.is_empty()) {
        return Err(Failure::usage("no command before :::")
            .remedy("exitring run -- COMMAND {} ::: ARGUMENTS"));
    }
    let mut lists = Vec::new();
    while let Some(separator) = next {
        let (words, after) = split_separator(rest.next().unwrap_or_default());
        if words.is_empty() {
            return Err(match separator.files {
                true => Failure::usage("no file after a :::: or ::::+"),
                false => Failure::usage("no arguments after a ::: or :::+")
                    .remedy("without any :::, arguments are the lines of FILE or standard input, of which there may be none"),
            });
        }
        separator.add_lists(words, &mut lists);
        next = after;
    }
    let count = match max_args {
        Some(_) if lists.len() > 1 => {
            let cause = "--max-args takes the arguments of one list, and here are several: each job has one argument of each";
            return Err(Failure::usage(cause).remedy("leave out --max-args, or give one list"));
        }
        Some(max) => ArgumentCount::UpTo(max),
        // FILE and standard input are one list.
        None => ArgumentCount::OfLists(lists.len().max(1)),
    };
    Ok((Template::new(&command, count)?, count, lists))
}

/// The files of arguments in the words after `--`, without standard input.
pub(crate) fn list_files(words: &[OsString]) -> impl Iterator<Item = &Path> {
    let mut in_files = false;
    words.iter().filter_map(move |word| {
        match Separator::parse(word.as_bytes()) {
            Some(separator) => in_files = separator.files,
            None if in_files && word != "-" => return Some(Path::new(word)),
            None => {}
        }
        None
    })
}

/// Splits off the separator at the end.
fn split_separator(words: &[OsString]) -> (Vec<OsString>, Option<Separator>) {
    let after = words
        .last()
        .and_then(|word| Separator::parse(word.as_bytes()));
    let words = &words[..words.len() - usize::from(after.is_some())];
    (words.iter().map(unquote_separator).collect(), after)
}

/// Replaces `\:::` by the literal word `:::`, and other separators likewise.
fn unquote_separator(word: &OsString) -> OsString {
    match word.as_bytes().strip_prefix(b"\\") {
        Some(quoted) if Separator::parse(quoted).is_some() => OsStr::from_bytes(quoted).to_owned(),
        _ => word.clone(),
    }
}

impl Template {
    fn new(words: &[OsString], count: ArgumentCount) -> Result<Self, Failure> {
        let words = words.iter().map(|word| Word::parse(word.as_bytes(), count));
        let words = words.collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            append: !words.iter().any(Word::has_placeholder),
            slotted: words.iter().any(Word::is_slotted),
            words,
        })
    }

    /// The command for these arguments.
    pub(crate) fn fill(&self, number: u64, arguments: &[&OsStr]) -> CommandSpec {
        if self.slotted {
            let mut words = Vec::with_capacity(self.words.len());
            for word in &self.words {
                word.fill(number, arguments, &mut |word| words.push(word));
            }
            return CommandSpec::SlottedArgv(words);
        }
        let appended = match self.append {
            true => arguments,
            false => &[],
        };
        let mut words = Vec::with_capacity(self.words.len() + appended.len());
        for word in &self.words {
            word.fill(number, arguments, &mut |word| {
                words.push(OsString::from_vec(word.text));
            });
        }
        words.extend(appended.iter().map(|&argument| argument.to_owned()));
        CommandSpec::Argv(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::command_spec::with_slot;
    use crate::run::input::held_list::HeldList;
    use crate::run::input::product::{Combination, Product};
    use crate::run::input::separator::ListSource;

    /// Parses a template, and the arguments in the command line.
    fn parse_all(words: &str) -> Result<(Template, Product), Failure> {
        let words: Vec<_> = words.split(' ').map(OsString::from).collect();
        let (template, _, lists) = parse(&words, None)?;
        let mut product = Product::default();
        for ListSpec { join, source } in lists {
            match source {
                ListSource::Words(words) => product.add(join, HeldList::from_words(&words))?,
                ListSource::File(file) => panic!("{file:?}"),
            }
        }
        Ok((template, product))
    }

    fn commands(words: &str) -> Vec<String> {
        let (template, mut product) = parse_all(words).expect("a template");
        let mut commands = Vec::new();
        let count = product.len();
        while let Some(filled) = product
            .next(|arguments| template.fill(commands.len() as u64 + 1, arguments))
            .expect("in memory")
        {
            let Combination::Arguments(filled) = filled else {
                panic!("all arguments are valid")
            };
            let words = match filled {
                CommandSpec::Argv(words) => words,
                CommandSpec::SlottedArgv(words) => with_slot(&words, 7),
                other => panic!("{other:?}"),
            };
            commands.push(words.join(OsStr::new("|")).into_string().expect("UTF-8"));
        }
        assert_eq!(Some(commands.len() as u64), count);
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
    fn all_arguments_of_a_job_are_words_of_their_own() {
        let fill = |words: &str, arguments: &[&str]| {
            let words: Vec<_> = words.split(' ').map(OsString::from).collect();
            let (template, ..) = parse(&words, Some(3)).expect("a template");
            let arguments: Vec<_> = arguments.iter().map(OsStr::new).collect();
            let CommandSpec::Argv(words) = template.fill(1, &arguments) else {
                panic!("there is no slot");
            };
            words.join(OsStr::new("|")).into_string().expect("UTF-8")
        };
        assert_eq!(fill("a -v", &["x", "y"]), "a|-v|x|y");
        assert_eq!(fill("a -{}- {/.}", &["d/x.c", "y"]), "a|-d/x.c|y-|x|y");
        assert_eq!(fill("a {} b{#}", &["x"]), "a|x|b1");
        // Places without an argument are empty.
        assert_eq!(fill("a {3}{2}{1} {1.}{}", &["x.c", "y"]), "a|yx.c|xx.c|y");
    }

    #[test]
    fn several_lists_are_combined() {
        assert_eq!(
            commands("a ::: 1 2 ::: x y"),
            ["a|1|x", "a|1|y", "a|2|x", "a|2|y"]
        );
        assert_eq!(commands("a {2}{1} ::: 1 2 ::: x"), ["a|x1", "a|x2"]);
        // As "$@" in a shell.
        assert_eq!(commands("a {} ::: 1 ::: x"), ["a|1|x"]);
        assert_eq!(commands("a -{}{}- ::: 1 ::: x"), ["a|-1|x1|x-"]);
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
            ["a|d/b|e|b.c|.|e"]
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
        assert!(parse_all("::: a").is_err());
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
            "a x{..}y ::: 1",
            "a ${x}{##} ::: 1",
            "a {2.} ::: 1",
        ] {
            assert!(parse_all(words).is_err(), "{words}");
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
            assert!(parse_all(words).is_ok(), "{words}");
        }
    }
}
