//! `exitring doctor`: what this machine allows, and what to change.

mod findings;
mod limits;

use std::io::ErrorKind;

use clap::Args;

use self::findings::Findings;
use crate::code;
use crate::failure::Failure;
use crate::diagnostics::styled_out;
use crate::standard;

const DETAILS: &str = "\
Examples:
  exitring doctor
  exitring doctor --json | jq .processes_at_a_time
  docker run ... exitring doctor             # is io_uring denied in there?

Everything is found out by trying it. Exit code: 0 processes can be watched here, and jobs run; 3 they cannot.";

/// Tell what this machine allows, and what to change
#[derive(Debug, Args)]
#[command(after_help = DETAILS)]
pub(crate) struct Options {
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Looks, and tells. Returns the exit code.
pub(crate) fn doctor(options: &Options) -> Result<u8, Failure> {
    let findings = Findings::find();
    let text = match options.json {
        // Strings and numbers: nothing that JSON cannot say.
        true => serde_json::to_string_pretty(&findings).unwrap_or_default() + "\n",
        false => findings.to_string(),
    };
    match standard::write_out(styled_out(&text).as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::writing("standard output", &error))
        }
        _ if findings.are_well() => Ok(code::OK),
        _ => Ok(code::RESOURCE),
    }
}
