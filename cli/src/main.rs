//! The `exitring` command.

mod cli;
mod code;
mod completions;
mod doctor;
mod duration;
mod failure;
mod man;
mod run;
mod say;
mod signal_name;
mod wait;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    let ended = match Cli::parse().command {
        Command::Run(options) => run::run(options),
        Command::Wait(options) => wait::wait(&options),
        Command::Doctor(options) => doctor::doctor(&options),
        Command::Completions(options) => completions::print(&options),
        Command::Man(options) => man::write(&options),
    };
    ended.unwrap_or_else(|failure| failure.report()).into()
}
