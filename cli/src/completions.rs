//! `exitring completions`: completion scripts for shells.

use std::io::ErrorKind;

use clap::{Args, Command};
use clap_complete::Shell;

use crate::code;
use crate::failure::Failure;
use crate::stdio;

const EXAMPLES: &str = "\
Examples:
  exitring completions bash > /etc/bash_completion.d/exitring
  exitring completions zsh > ~/.zfunc/_exitring
  exitring completions fish > ~/.config/fish/completions/exitring.fish";

/// Print a completion script for a shell
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// The shell: bash, elvish, fish, powershell or zsh
    #[arg(hide_possible_values = true)]
    shell: Shell,
}

/// Prints the script for the command line `exitring`. Returns the exit code.
pub(crate) fn print(options: &Options, mut exitring: Command) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut exitring, "exitring", &mut script);
    match stdio::write_out(&script) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::writing("standard output", &error))
        }
        _ => Ok(code::OK),
    }
}
