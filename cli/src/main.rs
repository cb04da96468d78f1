//! The `exitring` command.

mod cli;
mod client;
mod code;
mod serve;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Doctor => Ok(code::OK.into()),
        Command::Exits(options) => client::exits(&options),
        Command::ProtocolSchema => client::schema(),
        Command::Serve(options) => serve::run(&options),
        Command::Watch(options) => client::watch(&options),
    };
    done.unwrap_or_else(|error| {
        eprintln!("exitring: {error:#}");
        code::CANNOT.into()
    })
}
