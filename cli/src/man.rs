//! `exitring man`: the man pages, one for each subcommand.

use std::fs;
use std::path::PathBuf;

use clap::{Args, CommandFactory};

use crate::cli::Cli;
use crate::code;
use crate::failure::Failure;

/// Write the man pages, exitring.1 and one for each subcommand
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  exitring man /usr/local/share/man/man1")]
pub(crate) struct Options {
    /// Where to; made if it is not there
    dir: PathBuf,
}

pub(crate) fn write(options: &Options) -> Result<u8, Failure> {
    let written = fs::create_dir_all(&options.dir)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), &options.dir));
    match written {
        Ok(()) => Ok(code::OK),
        Err(error) => Err(Failure::writing(&options.dir.display().to_string(), &error)),
    }
}
