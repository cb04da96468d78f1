//! The `exitring` command.

mod cli;
mod code;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Doctor => code::OK.into(),
    }
}
