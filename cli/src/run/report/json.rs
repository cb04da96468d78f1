//! The encoding of records as JSON lines.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::Serialize;

/// The Base64 encoding of bytes that are not UTF-8, which a JSON string cannot represent.
pub(crate) fn base64_unless_text(bytes: &[u8]) -> Option<String> {
    match std::str::from_utf8(bytes) {
        Ok(_) => None,
        Err(_) => Some(BASE64_STANDARD.encode(bytes)),
    }
}

/// The value as JSON, with a line end.
pub(crate) fn to_json_line(value: &impl Serialize) -> Vec<u8> {
    // Records consist of strings and numbers, which JSON can represent.
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line
}
