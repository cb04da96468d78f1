//! Excerpts of commands.

use std::borrow::Cow;

/// The first `max` characters, and an ellipsis if there are more.
pub(super) fn shortened(text: &str, max: usize) -> Cow<'_, str> {
    match text.char_indices().nth(max) {
        None => text.into(),
        Some((end, _)) => format!("{}…", &text[..end]).into(),
    }
}

/// The same on one line, without control characters.
pub(crate) fn one_line(text: &str, max: usize) -> String {
    shortened(text, max).replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(shortened("aüb", 3), "aüb");
        assert_eq!(shortened("aüb", 2), "aü…");
        assert_eq!(one_line("a\nb\tc", 4), "a b …");
    }
}
