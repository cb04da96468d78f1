//! Bytes of jobs as text that XML can represent.

use std::fmt::Write as _;

use crate::run::output_tail::Tail;

/// The most characters of a name.
const NAME_MAX: usize = 1024;

/// A name. What XML cannot represent, and line ends, are escaped, so that different names stay
/// different.
pub(super) fn name_of(bytes: &[u8]) -> String {
    let mut name = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' => name.push_str("\\n"),
                '\r' => name.push_str("\\r"),
                '\t' => name.push_str("\\t"),
                c if c.is_control() || is_not_xml(c) => {
                    let _ = write!(name, "{}", c.escape_unicode());
                }
                c => name.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(name, "\\x{byte:02x}");
        }
    }
    match name.char_indices().nth(NAME_MAX) {
        Some((end, _)) => format!("{}...", &name[..end]),
        None => name,
    }
}

/// The end of an output stream; `None` if nothing was written. The crate removes the escape
/// sequences of terminals and control characters.
pub(super) fn output_of(tail: &Tail) -> Option<String> {
    if tail.len() == 0 && tail.omitted() == 0 {
        return None;
    }
    let mut text = match tail.omitted() {
        0 => String::new(),
        omitted => format!("[{omitted} bytes before this are left out]\n"),
    };
    let written = String::from_utf8_lossy(tail.bytes());
    text.extend(written.chars().map(|c| match is_not_xml(c) {
        true => char::REPLACEMENT_CHARACTER,
        false => c,
    }));
    Some(text)
}

/// Whether XML has no place for a character that is no control character.
fn is_not_xml(c: char) -> bool {
    matches!(c, '\u{fffe}' | '\u{ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_names_stay_different() {
        assert_eq!(name_of("a <ü> & 'b'".as_bytes()), "a <ü> & 'b'");
        assert_eq!(name_of(b"a\nb\xff\x1b[0m\0"), "a\\nb\\xff\\u{1b}[0m\\u{0}");
        assert_eq!(name_of("\u{ffff}".as_bytes()), "\\u{ffff}");
        assert_eq!(name_of(&[b'x'; 5000]).len(), NAME_MAX + 3);
    }

    #[test]
    fn output_says_what_is_left_out() {
        assert_eq!(output_of(&Tail::default()), None);
        let text = output_of(&Tail::after(7, "é\u{ffff}\n".into()));
        let expected = "[7 bytes before this are left out]\né\u{fffd}\n";
        assert_eq!(text.as_deref(), Some(expected));
    }
}
