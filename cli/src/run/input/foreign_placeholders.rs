//! Places and separators that GNU parallel and rush have and we have not. Passed on as they are, they would do something else
//! than meant without a word, so they are refused. Nothing else in braces is: `{print}`, `${x}` and `{1..5}` are for
//! programs.

/// Between lists of arguments.
const SEPARATORS: &[&str] = &["::::", ":::+", "::::+"];
/// What follows a position, or stands for itself. Up to so many of them make a place.
const SIGNS: &[u8] = b"./%#:+";
const SIGNS_MAX: usize = 4;

/// A separator that is none of ours, and what to write instead.
pub(in crate::run) fn separator(word: &[u8]) -> Option<(&'static str, &'static str)> {
    let known = SEPARATORS.iter().find(|known| known.as_bytes() == word)?;
    Some(match *known {
        "::::" => (
            known,
            "name the file of arguments before --: exitring run FILE -- COMMAND {}",
        ),
        _ => (
            known,
            "write the combinations as lines of a list, and split each: -- sh -c 'set -- $1; COMMAND \"$1\" \"$2\"' sh {}",
        ),
    })
}

/// A place that begins here and is none of ours, as it is spelt.
pub(in crate::run) fn place(text: &[u8]) -> Option<&[u8]> {
    let inner = text.strip_prefix(b"{")?;
    let (position, rest) = position(inner);
    if rest.starts_with(b"=") {
        // An expression in Perl.
        let end = rest[1..].windows(2).position(|two| two == b"=}")?;
        return Some(&text[..1 + position.len() + 1 + end + 2]);
    }
    let end = rest.iter().position(|&byte| byte == b'}')?;
    let spelling = &text[..1 + position.len() + end + 1];
    let rest = &rest[..end];
    let signs = rest.iter().take_while(|byte| SIGNS.contains(byte)).count();
    let is_place = match &rest[signs..] {
        // Counted from the last, or with something done to it.
        [] => position.starts_with(b"-") || (1..=SIGNS_MAX).contains(&signs),
        // Without a suffix; a part of it.
        [b'^' | b'@', pattern @ ..] => {
            !pattern.is_empty() && !pattern.iter().any(u8::is_ascii_whitespace)
        }
        _ => false,
    };
    is_place.then_some(spelling)
}

/// The number of an argument, if one is there, and the rest.
fn position(inner: &[u8]) -> (&[u8], &[u8]) {
    let minus = usize::from(inner.starts_with(b"-"));
    let digits = inner[minus..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    match digits {
        0 => inner.split_at(0),
        _ => inner.split_at(minus + digits),
    }
}

/// What to write instead of such a place.
pub(in crate::run) fn instead(spelling: &[u8]) -> String {
    let inner = spelling.get(1..spelling.len() - 1).unwrap_or_default();
    let (position, signs) = position(inner);
    let place = format!("{{{}}}", String::from_utf8_lossy(position));
    let by_shell = |cut: &str| format!("have a shell do it: -- sh -c '{cut}' sh {place}");
    match signs {
        _ if position.starts_with(b"-") => "count from the first: {1}, {2}".into(),
        b"." => by_shell(r#"COMMAND "${1%.*}""#),
        b"/" => by_shell(r#"COMMAND "${1##*/}""#),
        b"//" => by_shell(r#"COMMAND "$(dirname -- "$1")""#),
        b"/." => by_shell(r#"name=${1##*/}; COMMAND "${name%.*}""#),
        b"%" => "there is no number of a slot; {#} is the number of the job".into(),
        b"##" => "the number of all jobs is not known; {#} is the number of the job".into(),
        _ => "{} is the argument, {1} and {2} those of the first and second :::, {#} the number of the job; for more, have a shell do it: -- sh -c 'COMMAND \"$1\"' sh {}".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_other_tools_have_is_known() {
        for spelling in [
            "{.}",
            "{/}",
            "{//}",
            "{/.}",
            "{%}",
            "{##}",
            "{+}",
            "{..}",
            "{+/}",
            "{:}",
            "{%.}",
            "{%:}",
            "{1.}",
            "{2/}",
            "{2//}",
            "{1/.}",
            "{-1}",
            "{-2/.}",
            "{0#}",
            "{0%}",
            "{= s/a/b/ =}",
            "{2=uc=}",
            "{= $_ = {a => 1} =}",
            "{^.gz}",
            "{@(\\d+)}",
            "{2@x}",
            "{%^.gz}",
        ] {
            let text = format!("{spelling} and }} more");
            assert_eq!(
                place(text.as_bytes()),
                Some(spelling.as_bytes()),
                "{spelling}"
            );
            assert!(!instead(spelling.as_bytes()).is_empty());
        }
    }

    #[test]
    fn what_is_for_programs_is_left_to_them() {
        for text in [
            "{print}",
            "{print $1}",
            "{x}",
            "{}",
            "{1}",
            "{12}",
            "{1..5}",
            "{a,b}",
            "{1,3}",
            "{,2}",
            "{ ",
            "{",
            "{-}",
            "{?}",
            "{@}",
            "{^}",
            "{%s}",
            "{%d}",
            "{.a}",
            "{.[]}",
            "{/regex/}",
            "{:a}",
            "{== x}",
            "{; }",
            "{@base64 x}",
            "{1%.*}",
            "{1##*/}",
            "{\"a\":1}",
        ] {
            assert_eq!(place(text.as_bytes()), None, "{text}");
        }
    }
}
