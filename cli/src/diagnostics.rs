//! Saying something to people, on standard error.

use std::borrow::Cow;
use std::io::{stderr, stdout};

use anstream::{AutoStream, ColorChoice};

use crate::standard;

/// Says it. A terminal that hung up, or a full disk, is no reason to fail: nobody could be told of it.
pub(crate) fn say(text: &str) {
    let _ = standard::write_err(styled(text).as_bytes());
}

/// In colour, if standard error is a terminal.
pub(crate) fn styled(text: &str) -> Cow<'_, str> {
    in_colour(text, AutoStream::choice(&stderr()))
}

/// In colour, if standard output is a terminal.
pub(crate) fn styled_out(text: &str) -> Cow<'_, str> {
    in_colour(text, AutoStream::choice(&stdout()))
}

fn in_colour(text: &str, choice: ColorChoice) -> Cow<'_, str> {
    match choice {
        ColorChoice::Never => anstream::adapter::strip_str(text).to_string().into(),
        _ => text.into(),
    }
}
