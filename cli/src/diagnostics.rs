//! Diagnostic messages on standard error.

use std::borrow::Cow;
use std::io::{stderr, stdout};

use anstream::{AutoStream, ColorChoice};

use crate::stdio;

/// Writes a message to standard error. Errors are ignored, because there is nowhere left to report
/// them.
pub(crate) fn say(text: &str) {
    let _ = stdio::write_err(styled(text).as_bytes());
}

/// The text in colour, if standard error is a terminal.
pub(crate) fn styled(text: &str) -> Cow<'_, str> {
    in_colour(text, AutoStream::choice(&stderr()))
}

/// The text in colour, if standard output is a terminal.
pub(crate) fn styled_out(text: &str) -> Cow<'_, str> {
    in_colour(text, AutoStream::choice(&stdout()))
}

fn in_colour(text: &str, choice: ColorChoice) -> Cow<'_, str> {
    match choice {
        ColorChoice::Never => anstream::adapter::strip_str(text).to_string().into(),
        _ => text.into(),
    }
}
