//! `exitring doctor`: what this machine allows, and what to change.
//!
//! `findings` tries what the library and `exitring run` need, `cgroups` tries to make groups for
//! children, `text` prints the findings. They read the limits of the kernel from `exitring::limits`.

mod cgroups;
mod findings;
mod text;

use std::io::ErrorKind;

use clap::Args;

use self::findings::Findings;
use crate::code;
use crate::diagnostics::styled_out;
use crate::failure::Failure;
use crate::stdio;

const EXAMPLES: &str = "\
Examples:
  exitring doctor
  exitring doctor --json | jq .processes_at_a_time
  docker run IMAGE exitring doctor     # is io_uring denied in there?

Exit status: 0 processes can be watched and jobs run; 3 they cannot.";

/// Report what this machine allows, and what to change
///
/// The command tries what it reports: it builds watchers, watches itself, makes cgroups, and counts
/// descriptors. It reports the backend, whether children can have cgroups of their own, the limits
/// on processes and descriptors and how much of each is in use, how many processes, watches and jobs
/// they allow at a time, and how to allow more.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
}

/// Prints the findings. Returns the exit code.
pub(crate) fn doctor(options: &Options) -> Result<u8, Failure> {
    let findings = Findings::find();
    let text = match options.json {
        // Strings and numbers only, which cannot fail.
        true => serde_json::to_string_pretty(&findings).unwrap_or_default() + "\n",
        false => findings.to_string(),
    };
    match stdio::write_out(styled_out(&text).as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::writing("standard output", &error))
        }
        _ if findings.is_usable() => Ok(code::OK),
        _ => Ok(code::RESOURCE),
    }
}
