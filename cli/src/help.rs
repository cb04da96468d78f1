//! `--help`: each option in a line or two.
//!
//! The definition of an option has a short and a long text. `-h` prints the short texts of the most
//! used options, `--help` those of all, and the man page, to which it points, has the long texts.

use std::ffi::OsStr;

use clap::Command;
use clap::builder::{Resettable, StyledStr};
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Whether a command line that asks for help asks for all options: with `--help` or `help`.
pub(crate) fn wants_all(mut words: impl Iterator<Item = impl AsRef<OsStr>>) -> bool {
    let first = words.next();
    let is = |word: &OsStr, name: &str| word == name;
    first.is_some_and(|first| is(first.as_ref(), "help") || is(first.as_ref(), "--help"))
        || words.any(|word| is(word.as_ref(), "--help"))
}

/// The same command line, with the short text of every option in its help.
pub(crate) fn with_all_options(exitring: Command) -> Command {
    exitring.mut_subcommands(|mut command| {
        if let Some(about) = command.get_long_about().cloned() {
            command = command.about(about).long_about(Resettable::Reset);
        }
        let name = command.get_name();
        let pointer =
            format!("All about it, with examples: man exitring-{name}, or exitring man {name}.");
        let long = command.get_after_long_help();
        let after = match long.or(command.get_after_help()) {
            Some(after) => format!("{after}\n\n{pointer}"),
            None => pointer,
        };
        command = command.after_help(after).after_long_help(Resettable::Reset);
        command.mut_args(|arg| arg.long_help(Resettable::Reset).hide_short_help(false))
    })
}

/// Replaces the advice on words that `run` does not know: to write them after `--` is right for all
/// words from the command on.
pub(crate) fn explain_separator(mut error: clap::Error, subcommand: Option<&OsStr>) -> clap::Error {
    if subcommand == Some(OsStr::new("run")) && error.kind() == ErrorKind::UnknownArgument {
        let mut advice = match error.remove(ContextKind::Suggested) {
            Some(ContextValue::StyledStrs(advice)) => advice,
            _ => Vec::new(),
        };
        advice.retain(|advice| !advice.to_string().starts_with("to pass"));
        advice.push(StyledStr::from(
            "a command and its arguments follow --, as in: exitring run -j 4 -- gzip -9 ::: *.log",
        ));
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(advice));
    }
    error
}

#[cfg(test)]
mod tests {
    use super::wants_all;

    #[test]
    fn all_options_are_printed_for_the_long_option_only() {
        let asks = |line: &str| wants_all(line.split(' '));
        assert!(asks("run --help") && asks("--help") && asks("help run") && asks("run -q --help"));
        assert!(!asks("run -h") && !asks("run help -h"));
    }
}
