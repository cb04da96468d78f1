//! The `exitring` command.

mod cli;
mod client;
mod code;
mod completions;
mod dispositions;
mod doctor;
mod duration;
mod failure;
mod man;
mod run;
mod say;
mod serve;
mod signal_name;
mod wait;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::failure::Failure;

fn main() -> ExitCode {
    dispositions::set_own();
    let ended = match Cli::parse().command {
        Command::Run(options) => run::run(options),
        Command::Wait(options) => wait::wait(&options),
        Command::Doctor(options) => doctor::doctor(&options),
        Command::Serve(options) => serve::run(&options).map_err(Failure::from),
        Command::Watch(options) => client::watch(&options).map_err(Failure::from),
        Command::Exits(options) => client::exits(&options).map_err(Failure::from),
        Command::Completions(options) => completions::print(&options),
        Command::Man(options) => man::write(&options),
        Command::ProtocolSchema => client::schema().map_err(Failure::from),
    };
    ended.unwrap_or_else(|failure| failure.report()).into()
}
