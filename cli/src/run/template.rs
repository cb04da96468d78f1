//! `COMMAND {} ::: ARGUMENTS`: one command for each argument.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::failure::Failure;

const SEPARATOR: &str = ":::";
/// What links lists in GNU parallel, which would be taken for an argument.
const LINKED: &str = ":::+";

/// A command with places for arguments.
#[derive(Debug)]
pub(crate) struct Template {
    words: Vec<OsString>,
    /// No word has a place, so arguments are appended.
    append: bool,
}

/// The arguments after each `:::`, one at least; every combination of them is a job, the last list going round fastest.
#[derive(Debug)]
pub(crate) struct Product {
    lists: Vec<Vec<OsString>>,
    /// Which is next, of each list; `None` at the end.
    next: Option<Vec<usize>>,
}

/// Takes apart what stands after `--`.
pub(crate) fn parse(words: Vec<OsString>) -> Result<(Template, Option<Product>), Failure> {
    let mut parts = words.split(|word| word == SEPARATOR).map(<[_]>::to_vec);
    let command: Vec<OsString> = parts.next().unwrap_or_default();
    if command.first().is_none_or(|program| program.is_empty()) {
        return Err(Failure::usage("there is no command before :::")
            .remedy("exitring run -- COMMAND {} ::: ARGUMENTS"));
    }
    let lists: Vec<_> = parts.collect();
    if lists.iter().any(Vec::is_empty) {
        return Err(Failure::usage("there are no arguments after a :::")
            .remedy("without any :::, arguments are lines of FILE or of standard input, and there may be none"));
    }
    if words.iter().any(|word| word == LINKED) {
        return Err(Failure::usage(":::+ is not supported")
            .remedy("write the combinations as lines of a list"));
    }
    // Of lines there is one argument at a time.
    check_places(&command, lists.len().max(1))?;
    let product = (!lists.is_empty()).then(|| Product::new(lists));
    Ok((Template::new(command), product))
}

impl Template {
    fn new(words: Vec<OsString>) -> Self {
        let append = !words.iter().any(|word| has_place(word.as_bytes()));
        Self { words, append }
    }

    /// The command for these arguments: `{}` is all of them, `{1}` the first, `{#}` the job's number.
    pub(crate) fn fill(&self, number: u64, arguments: &[&OsStr]) -> Vec<OsString> {
        let filled = self
            .words
            .iter()
            .map(|word| fill(word.as_bytes(), number, arguments));
        let appended = arguments
            .iter()
            .filter(|_| self.append)
            .map(|&argument| argument.to_owned());
        filled.chain(appended).collect()
    }
}

impl Product {
    fn new(lists: Vec<Vec<OsString>>) -> Self {
        let next = Some(vec![0; lists.len()]);
        Self { lists, next }
    }

    /// How many combinations there are.
    pub(crate) fn len(&self) -> u64 {
        self.lists.iter().map(|list| list.len() as u64).product()
    }

    pub(crate) fn next(&mut self) -> Option<Vec<&OsStr>> {
        let indices = self.next.as_mut()?;
        let current = indices.clone();
        let mut place = indices.len();
        loop {
            let Some(list) = place.checked_sub(1) else {
                self.next = None;
                break;
            };
            place = list;
            indices[list] += 1;
            if indices[list] < self.lists[list].len() {
                break;
            }
            indices[list] = 0;
        }
        let chosen = self
            .lists
            .iter()
            .zip(current)
            .map(|(list, index)| list[index].as_os_str());
        Some(chosen.collect())
    }
}

/// What stands between braces, if it is a place for something.
fn place(word: &[u8]) -> Option<(&[u8], &[u8])> {
    let inner = word.strip_prefix(b"{")?;
    let end = inner.iter().position(|&byte| byte == b'}')?;
    let (name, rest) = (&inner[..end], &inner[end + 1..]);
    let known = name.is_empty() || name == b"#" || name.iter().all(u8::is_ascii_digit);
    known.then_some((name, rest))
}

/// Every place must be one that there is an argument for.
fn check_places(command: &[OsString], arguments: usize) -> Result<(), Failure> {
    for word in command.iter().map(|word| word.as_bytes()) {
        for (name, _) in (0..word.len()).filter_map(|at| place(&word[at..])) {
            let name = String::from_utf8_lossy(name);
            let there_is = matches!(&*name, "" | "#")
                || name.parse().is_ok_and(|nth| (1..=arguments).contains(&nth));
            if !there_is {
                let cause = format!(
                    "{{{name}}} is no place: there are {{1}} to {{{arguments}}}, one for each :::"
                );
                return Err(
                    Failure::usage(cause).remedy("{} is all arguments, {#} the job's number")
                );
            }
        }
    }
    Ok(())
}

fn has_place(word: &[u8]) -> bool {
    (0..word.len()).any(|at| place(&word[at..]).is_some())
}

fn fill(word: &[u8], number: u64, arguments: &[&OsStr]) -> OsString {
    let mut filled = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&byte, after)) = rest.split_first() {
        let Some((name, after)) = place(rest) else {
            filled.push(byte);
            rest = after;
            continue;
        };
        match std::str::from_utf8(name).unwrap_or_default() {
            "" => filled.extend(arguments.join(OsStr::new(" ")).as_bytes()),
            "#" => filled.extend(number.to_string().bytes()),
            // There is one, as was checked.
            nth => {
                let nth = nth.parse::<usize>().ok().and_then(|nth| nth.checked_sub(1));
                let argument = nth.and_then(|nth| arguments.get(nth));
                filled.extend(argument.map_or(&[][..], |argument| argument.as_bytes()));
            }
        }
        rest = after;
    }
    OsString::from_vec(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands(words: &str) -> Vec<String> {
        let words = words.split(' ').map(OsString::from).collect();
        let (template, product) = parse(words).expect("a template");
        let mut product = product.expect("arguments");
        let mut commands = Vec::new();
        while let Some(arguments) = product.next() {
            let filled = template.fill(commands.len() as u64 + 1, &arguments);
            commands.push(filled.join(OsStr::new("|")).into_string().expect("UTF-8"));
        }
        assert_eq!(commands.len() as u64, product.len());
        commands
    }

    #[test]
    fn places_are_filled_in_every_word() {
        assert_eq!(commands("a {}.x -{}- ::: 1 2"), ["a|1.x|-1-", "a|2.x|-2-"]);
        assert_eq!(commands("a {#} ::: x y"), ["a|1", "a|2"]);
        assert_eq!(commands("a {b} { ::: 1"), ["a|{b}|{|1"]);
    }

    #[test]
    fn without_a_place_arguments_are_appended() {
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
    }

    #[test]
    fn a_command_there_must_be() {
        parse(vec![":::".into(), "a".into()]).expect_err("no command");
    }

    #[test]
    fn what_there_is_no_argument_for_is_refused() {
        for words in [
            "a {0} ::: 1",
            "a {2} ::: 1",
            "a {3} ::: 1 ::: 2",
            "a {2}",
            "a {99999999999999999999} ::: 1",
            "a :::",
            "a ::: 1 :::",
            "a ::: 1 :::+ 2",
        ] {
            let words = words.split(' ').map(OsString::from).collect::<Vec<_>>();
            parse(words.clone()).expect_err(&format!("{words:?}"));
        }
        for words in ["a {1}", "a {2}{1} ::: 1 ::: 2", "a {#}", "a {b}"] {
            parse(words.split(' ').map(OsString::from).collect()).expect(words);
        }
    }
}
