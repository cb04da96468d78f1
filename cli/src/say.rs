//! Saying something to people, on standard error.

use std::borrow::Cow;
use std::io::{Write, stderr};

use anstream::{AutoStream, ColorChoice};

/// Says it. A terminal that hung up, or a full disk, is no reason to fail: nobody could be told of it.
pub(crate) fn say(text: &str) {
    let _ = stderr().write_all(styled(text).as_bytes());
}

/// In colour, if standard error is a terminal.
pub(crate) fn styled(text: &str) -> Cow<'_, str> {
    match AutoStream::choice(&stderr()) {
        ColorChoice::Never => anstream::adapter::strip_str(text).to_string().into(),
        _ => text.into(),
    }
}
