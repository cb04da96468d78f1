//! The `exitring` command.

mod cli;
mod client;
mod code;
mod completions;
mod dispositions;
mod doctor;
mod duration;
mod failure;
mod init;
mod locale;
mod man;
mod run;
mod diagnostics;
mod serve;
mod signal_name;
mod standard;
mod wait;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::failure::Failure;
use crate::diagnostics::{say, styled_out};

fn main() -> ExitCode {
    dispositions::set_own();
    // Before there are threads.
    if let Err(error) = init::stay_behind() {
        let failure = Failure::resource(format!("process 1 cannot start a child: {error}"));
        return failure
            .remedy("raise the container's limit of processes")
            .report()
            .into();
    }
    let command = match Cli::try_parse() {
        Ok(Cli { command }) => command,
        Err(error) => return show(&error).into(),
    };
    let ended = match command {
        Command::Run(options) => run::run(options),
        Command::Wait(options) => wait::wait(&options),
        Command::Doctor(options) => doctor::doctor(&options),
        Command::Serve(options) => serve::run(&options).map_err(Failure::from),
        Command::Watch(options) => client::watch(&options).map_err(Failure::from),
        Command::Exits(options) => client::exits(&options).map_err(Failure::from),
        Command::Completions(options) => completions::print(&options),
        Command::Man(options) => man::write(&options),
        Command::DrainPipes => run::drain(),
        Command::ProtocolSchema => client::schema().map_err(Failure::from),
    };
    ended.unwrap_or_else(|failure| failure.report()).into()
}

/// Shows help, the version, or what is wrong with the command line. Returns the exit code.
fn show(error: &clap::Error) -> u8 {
    let text = error.render().ansi().to_string();
    match error.use_stderr() {
        true => say(&text),
        // Who reads no more of it has seen enough.
        false => drop(standard::write_out(styled_out(&text).as_bytes())),
    }
    u8::try_from(error.exit_code()).unwrap_or(code::USAGE)
}
