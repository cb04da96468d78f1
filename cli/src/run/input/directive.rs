//! The comment at the end of a line of a list of commands: `#exitring: weight=4 group=db`.
//!
//! For a shell, and so for other programs that read the list, it is a comment.

use crate::run::claim::Claim;

const MARK: &[u8] = b"#exitring:";
const INVALID: &str = "after #exitring: only weight=N, from 1, and group=NAME may follow";

/// Splits a line into the command and the claim of its job.
pub(super) fn split(line: &[u8]) -> Result<(&[u8], Option<Claim>), &'static str> {
    let none = Ok((line, None));
    // Most lines have no comment at all.
    if !line.contains(&b'#') {
        return none;
    }
    let Some(start) = line.windows(MARK.len()).rposition(|part| part == MARK) else {
        return none;
    };
    let (command, directive) = line.split_at(start);
    // As for a shell, a comment begins a word. With a quote after it the mark is in a string.
    let begins_word = command.last().is_some_and(u8::is_ascii_whitespace);
    let in_string = directive.iter().any(|byte| b"'\"`".contains(byte));
    if !begins_word || in_string {
        return none;
    }
    let claim = parse(&directive[MARK.len()..]).ok_or(INVALID)?;
    Ok((command.trim_ascii_end(), Some(claim)))
}

fn parse(directive: &[u8]) -> Option<Claim> {
    let (mut weight, mut group) = (None, None);
    for word in std::str::from_utf8(directive)
        .ok()?
        .split_ascii_whitespace()
    {
        let (key, value) = word.split_once('=')?;
        let repeated = match key {
            "weight" => weight
                .replace(value.parse::<u32>().ok().filter(|weight| *weight > 0)?)
                .is_some(),
            "group" if !value.is_empty() => group.replace(value.into()).is_some(),
            _ => return None,
        };
        if repeated {
            return None;
        }
    }
    (weight.is_some() || group.is_some()).then_some(Claim {
        weight: weight.unwrap_or(1),
        group,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(weight: u32, group: Option<&str>) -> Option<Claim> {
        let group = group.map(Into::into);
        Some(Claim { weight, group })
    }

    #[test]
    fn the_claim_of_a_line_is_split_off() {
        for (line, command, expected) in [
            ("sleep 1", "sleep 1", None),
            ("sleep 1 # a comment", "sleep 1 # a comment", None),
            ("a #exitring: weight=4", "a", claim(4, None)),
            ("a \t#exitring:group=db ", "a", claim(1, Some("db"))),
            (
                "a #exitring: weight=2 group=x=y",
                "a",
                claim(2, Some("x=y")),
            ),
            ("a #exitring: group=x weight=2", "a", claim(2, Some("x"))),
            // No comment for a shell.
            ("a#exitring: weight=4", "a#exitring: weight=4", None),
            ("echo ' #exitring: w'", "echo ' #exitring: w'", None),
        ] {
            assert_eq!(
                split(line.as_bytes()),
                Ok((command.as_bytes(), expected)),
                "{line}"
            );
        }
    }

    #[test]
    fn other_words_are_refused() {
        for directive in [
            "",
            "weight",
            "weight=",
            "weight=0",
            "weight=-1",
            "weight=x",
            "weight=1.5",
            "group=",
            "wieght=4",
            "weight=1 weight=2",
            "group=a group=b",
            "weight=4,group=db",
            "4",
            "weight=99999999999",
            "group=a \u{fffd}",
        ] {
            let line = format!("a #exitring: {directive}");
            assert_eq!(split(line.as_bytes()), Err(INVALID), "{line}");
        }
        assert_eq!(split(b"a #exitring: group=\xff"), Err(INVALID));
    }
}
