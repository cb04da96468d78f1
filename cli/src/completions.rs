//! `exitring completions`: for the shell's tab key.

use std::io::ErrorKind;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::code;
use crate::failure::Failure;
use crate::standard;

const EXAMPLES: &str = "\
Examples:
  exitring completions bash > /etc/bash_completion.d/exitring
  exitring completions zsh > ~/.zfunc/_exitring
  exitring completions fish > ~/.config/fish/completions/exitring.fish";

/// Print completions for a shell
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    shell: Shell,
}

pub(crate) fn print(options: &Options) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut Cli::command(), "exitring", &mut script);
    match standard::write_out(&script) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::writing("standard output", &error))
        }
        _ => Ok(code::OK),
    }
}
