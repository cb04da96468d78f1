//! Prints to standard output.

use std::io::{self, ErrorKind, Write};

use anyhow::{Context, Result};

/// Prints a text. A closed pipe, as after `loadgen … | head`, is not an error.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut output = io::stdout().lock();
    match writeln!(output, "{}", text.trim_end()).and_then(|()| output.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        printed => printed.context("writing to standard output"),
    }
}
