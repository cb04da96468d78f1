//! How a line is executed: by a shell if it needs one, else directly, as `make` does it. That saves a process's
//! start, which for a short command is most of what it costs.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

/// What means something to a shell, in any place. (`=` only before the command, `{` and `!` only as a word.)
const SPECIAL: &[u8] = b"|&;<>()$`\\\"'*?[]~#\n\r\x0b\x0c";

/// Words that are the shell's own: its language, and commands that no program can stand in for, or that
/// do not do quite what the program of their name does, of the shells that are `sh` somewhere. Sorted.
const OWN_WORDS: &[&str] = &[
    "!",
    ".",
    ":",
    "[",
    "alias",
    "bg",
    "bind",
    "break",
    "builtin",
    "caller",
    "case",
    "cd",
    "chdir",
    "command",
    "compgen",
    "complete",
    "continue",
    "coproc",
    "declare",
    "dirs",
    "disown",
    "do",
    "done",
    "echo",
    "elif",
    "else",
    "enable",
    "esac",
    "eval",
    "exec",
    "exit",
    "export",
    "fc",
    "fg",
    "fi",
    "for",
    "function",
    "getopts",
    "hash",
    "help",
    "history",
    "if",
    "in",
    "jobs",
    "kill",
    "let",
    "local",
    "logout",
    "mapfile",
    "popd",
    "printf",
    "pushd",
    "pwd",
    "read",
    "readarray",
    "readonly",
    "return",
    "select",
    "set",
    "shift",
    "shopt",
    "source",
    "suspend",
    "test",
    "then",
    "time",
    "times",
    "trap",
    "type",
    "typeset",
    "ulimit",
    "umask",
    "unalias",
    "unset",
    "until",
    "wait",
    "whence",
    "while",
    "{",
    "}",
];

/// Who executes lines.
#[derive(Clone, Debug)]
pub(crate) enum Shell {
    /// `sh` those that need it.
    Auto,
    /// This one all of them.
    Always(OsString),
    /// None: quotes are understood, nothing is expanded.
    Never,
}

impl Shell {
    /// The command for a line, or why there is none.
    pub(crate) fn command(&self, line: &OsStr) -> Result<Command, &'static str> {
        match self {
            Self::Auto => match plain_words(line.as_bytes()) {
                Some(words) => Ok(words_command(words)),
                None => Ok(by_shell(OsStr::new("sh"), line)),
            },
            Self::Always(shell) => Ok(by_shell(shell, line)),
            Self::Never => {
                let line = line
                    .to_str()
                    .ok_or("the line is no UTF-8, which --no-shell needs")?;
                let words = shell_words::split(line).map_err(|_| "a quote is not closed")?;
                match words.is_empty() {
                    true => Err("the line has no word"),
                    false => Ok(words_command(words.iter().map(OsStr::new))),
                }
            }
        }
    }
}

pub(crate) fn by_shell(shell: &OsStr, line: &OsStr) -> Command {
    let mut command = Command::new(shell);
    command.arg("-c").arg(line);
    command
}

/// The first is the program; there must be one.
pub(crate) fn words_command<'a>(words: impl IntoIterator<Item = &'a OsStr>) -> Command {
    let mut words = words.into_iter();
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words);
    command
}

/// The words of a line that a shell would only have split; `None` if it has more to do.
fn plain_words(line: &[u8]) -> Option<impl Iterator<Item = &OsStr>> {
    if line.iter().any(|byte| SPECIAL.contains(byte)) {
        return None;
    }
    let words = || {
        line.split(|byte| matches!(byte, b' ' | b'\t'))
            .filter(|word| !word.is_empty())
    };
    let first = words().next()?;
    let own = |word: &[u8]| {
        OWN_WORDS
            .binary_search_by(|own| own.as_bytes().cmp(word))
            .is_ok()
    };
    if own(first) || first.contains(&b'=') || first.starts_with(b"-") {
        return None;
    }
    // Some shells expand `{a,b}`.
    if words().any(|word| word.contains(&b'{')) {
        return None;
    }
    Some(words().map(OsStr::from_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Option<Vec<&str>> {
        Some(
            plain_words(line.as_bytes())?
                .map(|word| word.to_str().expect("UTF-8"))
                .collect(),
        )
    }

    #[test]
    fn what_a_shell_would_only_split_needs_none() {
        assert_eq!(words("true"), Some(vec!["true"]));
        assert_eq!(
            words("  cp -r  a\tb=c "),
            Some(vec!["cp", "-r", "a", "b=c"])
        );
        assert_eq!(words("/bin/echo %d 3"), Some(vec!["/bin/echo", "%d", "3"]));
    }

    #[test]
    fn what_means_something_to_a_shell_is_left_to_it() {
        for line in [
            "a | b",
            "a > b",
            "a; b",
            "a $b",
            "a 'b'",
            "a \"b\"",
            "a\\ b",
            "a *",
            "~/a",
            "X=1 a",
            "cd /",
            "exit 3",
            "echo -e x",
            "printf %d 3",
            "test a = b",
            "kill -9 1",
            "pwd",
            "if a",
            "{ a",
            "a {b,c}",
            "a # b",
            "a &",
            "(a)",
            "ulimit -n",
            "! a",
            "",
            " ",
        ] {
            assert_eq!(words(line), None, "{line:?}");
        }
    }

    #[test]
    fn own_words_are_sorted_to_be_found() {
        assert!(OWN_WORDS.is_sorted());
    }
}
