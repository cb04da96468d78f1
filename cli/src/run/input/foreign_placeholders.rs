//! Placeholders of GNU parallel and rush that exitring does not support.
//!
//! Passing them on unchanged would silently do something else than intended, so they are refused.
//! Everything else in braces goes to the program unchanged: `{print}`, `${x}`, `{1..5}`.

/// Modifiers that follow a position or stand alone. A placeholder has at most `MODIFIERS_MAX` of
/// them.
const MODIFIERS: &[u8] = b"./%#:+";
const MODIFIERS_MAX: usize = 4;

/// The spelling of another tool's placeholder, if the text starts with one.
pub(super) fn placeholder(text: &[u8]) -> Option<&[u8]> {
    let inner = text.strip_prefix(b"{")?;
    let (position, rest) = position(inner);
    if rest.starts_with(b"=") {
        // A Perl expression.
        let end = rest[1..].windows(2).position(|two| two == b"=}")?;
        return Some(&text[..1 + position.len() + 1 + end + 2]);
    }
    let end = rest.iter().position(|&byte| byte == b'}')?;
    let spelling = &text[..1 + position.len() + end + 1];
    let rest = &rest[..end];
    let modifiers = rest
        .iter()
        .take_while(|byte| MODIFIERS.contains(byte))
        .count();
    let is_placeholder = match &rest[modifiers..] {
        // Counted from the last argument, or with modifiers.
        [] => position.starts_with(b"-") || (1..=MODIFIERS_MAX).contains(&modifiers),
        // Removal of a suffix, or a match of a pattern.
        [b'^' | b'@', pattern @ ..] => {
            !pattern.is_empty() && !pattern.iter().any(u8::is_ascii_whitespace)
        }
        _ => false,
    };
    is_placeholder.then_some(spelling)
}

/// Splits off the number of an argument.
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

/// What to write instead of such a placeholder.
pub(super) fn replacement(spelling: &[u8]) -> String {
    let inner = spelling.get(1..spelling.len() - 1).unwrap_or_default();
    let (position, modifiers) = position(inner);
    match modifiers {
        _ if position.starts_with(b"-") => "count from the first: {1}, {2}".into(),
        b"##" => "the number of all jobs is not known; {#} is the number of the job".into(),
        _ => "{} is the argument, {1} and {2} are those of the first and second :::, {.} {/} {//} {/.} are parts of a path, {#} is the number of the job, {%} that of its slot; for more, use a shell: -- sh -c 'COMMAND \"$1\"' sh {}".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_of_other_tools_are_recognised() {
        for spelling in [
            "{##}",
            "{+}",
            "{..}",
            "{+/}",
            "{:}",
            "{%.}",
            "{%:}",
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
                placeholder(text.as_bytes()),
                Some(spelling.as_bytes()),
                "{spelling}"
            );
            assert!(!replacement(spelling.as_bytes()).is_empty());
        }
    }

    #[test]
    fn other_text_in_braces_is_not_a_placeholder() {
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
            assert_eq!(placeholder(text.as_bytes()), None, "{text}");
        }
    }
}
