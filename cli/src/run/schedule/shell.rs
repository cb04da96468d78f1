//! How a line is executed: by a shell if it needs one, else directly, as `make` does.
//!
//! The direct way saves the start of a process, which is most of the cost of a short command.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use exitring::Command;

/// Bytes that are special to a shell in any position. (`=` is special only before the command, `{`
/// and `!` only as a word.)
const SPECIAL_BYTES: &[u8] = b"|&;<>()$`\\\"'*?[]~#\n\r\x0b\x0c";

/// Words that a shell handles itself, for all shells that are `sh` on some system: keywords,
/// builtins without an equivalent program, and builtins that differ from the program of the same
/// name. Sorted.
const SHELL_WORDS: &[&str] = &[
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

/// Which lines a shell executes.
#[derive(Clone, Debug)]
pub(crate) enum Shell {
    /// `sh` executes the lines that need a shell.
    Auto,
    /// This shell executes all lines.
    Always(OsString),
    /// No shell: quotes are parsed, and nothing is expanded.
    Never,
}

impl Shell {
    /// The command for a line, or why the line cannot be executed.
    pub(crate) fn command(&self, line: &OsStr) -> Result<Command, &'static str> {
        match self {
            Self::Auto => match plain_words(line.as_bytes()) {
                Some(words) => Ok(argv_command(words)),
                None => Ok(shell_command(OsStr::new("sh"), line)),
            },
            Self::Always(shell) => Ok(shell_command(shell, line)),
            Self::Never => {
                let line = line
                    .to_str()
                    .ok_or("the line is no UTF-8, which --no-shell needs")?;
                let words = shell_words::split(line).map_err(|_| "a quote is not closed")?;
                match words.is_empty() {
                    true => Err("the line has no word"),
                    false => Ok(argv_command(words.iter().map(OsStr::new))),
                }
            }
        }
    }
}

pub(crate) fn shell_command(shell: &OsStr, line: &OsStr) -> Command {
    let mut command = Command::new(shell);
    command.arg("-c").arg(line);
    command
}

/// Builds a command. The first word is the program, and must exist.
pub(crate) fn argv_command<'a>(words: impl IntoIterator<Item = &'a OsStr>) -> Command {
    let mut words = words.into_iter();
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words);
    command
}

/// The words of a line that a shell would only split; `None` if the shell has more to do.
fn plain_words(line: &[u8]) -> Option<impl Iterator<Item = &OsStr>> {
    if line.iter().any(|byte| SPECIAL_BYTES.contains(byte)) {
        return None;
    }
    let words = || {
        line.split(|byte| matches!(byte, b' ' | b'\t'))
            .filter(|word| !word.is_empty())
    };
    let first = words().next()?;
    let own = |word: &[u8]| {
        SHELL_WORDS
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
    fn simple_lines_need_no_shell() {
        assert_eq!(words("true"), Some(vec!["true"]));
        assert_eq!(
            words("  cp -r  a\tb=c "),
            Some(vec!["cp", "-r", "a", "b=c"])
        );
        assert_eq!(words("/bin/echo %d 3"), Some(vec!["/bin/echo", "%d", "3"]));
    }

    #[test]
    fn lines_with_shell_syntax_need_a_shell() {
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
    fn shell_words_are_sorted() {
        assert!(SHELL_WORDS.is_sorted());
    }
}
