//! A string of the operating system, in JSON.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::{Deserialize, Serialize};

/// The most characters of a foreign text in a message.
const LINE_MAX: usize = 1000;

/// A string, or `{"base64": "…"}` where the bytes are not UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Text {
    Utf8(String),
    Bytes { base64: String },
}

impl Text {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Utf8(text.into()),
            Err(_) => Self::Bytes {
                base64: BASE64_STANDARD.encode(bytes),
            },
        }
    }

    pub(crate) fn of_os(text: &OsStr) -> Self {
        Self::of(text.as_bytes())
    }

    /// The bytes. `None`: the encoding is invalid.
    pub(crate) fn into_bytes(self) -> Option<Vec<u8>> {
        match self {
            Self::Utf8(text) => Some(text.into_bytes()),
            Self::Bytes { base64 } => BASE64_STANDARD.decode(base64).ok(),
        }
    }

    pub(crate) fn into_os(self) -> Option<OsString> {
        self.into_bytes().map(OsString::from_vec)
    }
}

/// A text of the server or of another machine, for a message: on one line, without control
/// characters, and not too long.
pub(crate) fn one_line(text: &str) -> String {
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    clean.take(LINE_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_text_is_one_line_without_escapes() {
        assert_eq!(one_line("a\u{1b}[2Jb\nc\u{9b}"), "a [2Jb c ");
        assert_eq!(one_line(&"\u{e4}".repeat(2000)).chars().count(), LINE_MAX);
    }

    #[test]
    fn bytes_survive_a_round_trip() {
        for bytes in [
            &b""[..],
            b"a b\n",
            "ä\u{0}".as_bytes(),
            b"\xff\xfe",
            b"{\"base64\":1}",
        ] {
            let json = serde_json::to_vec(&Text::of(bytes)).expect("it is JSON");
            let text: Text = serde_json::from_slice(&json).expect("it is a text");
            assert_eq!(text.into_bytes().as_deref(), Some(bytes));
        }
    }
}
