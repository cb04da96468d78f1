//! The subcommands that are clients of a service: `exitring watch` and `exitring exits`.

mod exits;
mod options;
mod watch;

use std::io::ErrorKind;

use anyhow::{Context, Result};

pub(crate) use self::exits::exits;
pub(crate) use self::options::{ExitsOptions, WatchOptions};
pub(crate) use self::watch::watch;
use crate::code;
use crate::stdio;

/// Prints the JSON schema of the protocol.
pub(crate) fn schema() -> Result<u8> {
    let schema = schemars::schema_for!(exitring_protocol::Schema);
    print(&serde_json::to_string_pretty(&schema)?)?;
    Ok(code::OK)
}

/// Prints a line. Returns `false` if the reader has closed the pipe.
fn print(line: &str) -> Result<bool> {
    match stdio::write_out(format!("{line}\n").as_bytes()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true).context("writing the output"),
    }
}
