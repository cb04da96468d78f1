//! The value of `--delimiter`.

/// Parses a byte, or an escape for one as xargs(1) and GNU parallel understand it: `\n`, `\t`,
/// `\054` (octal), `\x2c`.
pub(crate) fn parse(text: &str) -> Result<u8, String> {
    const WANTED: &str =
        "a delimiter is one byte, or an escape for one as in \\n, \\t, \\0, \\054, \\x2c";
    let number = |digits: &str, radix| {
        let is_digit = |digit: char| digit.is_digit(radix);
        match digits.len() <= 3 && digits.chars().all(is_digit) {
            true => u8::from_str_radix(digits, radix).map_err(|_| WANTED.to_owned()),
            false => Err(WANTED.to_owned()),
        }
    };
    match (text.as_bytes(), text.strip_prefix('\\')) {
        ([byte], _) => Ok(*byte),
        (_, Some(escape)) => match (escape, escape.strip_prefix('x')) {
            ("a", _) => Ok(0x07),
            ("b", _) => Ok(0x08),
            ("f", _) => Ok(0x0c),
            ("n", _) => Ok(b'\n'),
            ("r", _) => Ok(b'\r'),
            ("t", _) => Ok(b'\t'),
            ("v", _) => Ok(0x0b),
            ("\\", _) => Ok(b'\\'),
            (_, Some(hexadecimal)) => number(hexadecimal, 16),
            (octal, None) => number(octal, 8),
        },
        _ => Err(WANTED.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_their_escapes_are_accepted_and_other_texts_are_refused() {
        for (text, byte) in [
            (",", b','),
            ("\n", b'\n'),
            ("\\", b'\\'),
            ("\\\\", b'\\'),
            ("\\n", b'\n'),
            ("\\t", b'\t'),
            ("\\0", 0),
            ("\\054", b','),
            ("\\x2c", b','),
            ("\\x2C", b','),
            ("\\377", 255),
            ("0", b'0'),
        ] {
            assert_eq!(parse(text), Ok(byte), "{text:?}");
        }
        for text in [
            "", "ab", "é", "\\q", "\\x", "\\xg", "\\400", "\\8", "\\+1", "\\x+1", "\\0000",
        ] {
            parse(text).expect_err(text);
        }
    }
}
