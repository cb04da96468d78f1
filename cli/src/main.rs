//! The `exitring` command.

mod cli;
mod client;
mod code;
mod completions;
mod descriptors;
mod diagnostics;
mod dispositions;
mod doctor;
mod duration;
mod failure;
mod help;
mod init;
mod locale;
mod man;
#[cfg(feature = "queue")]
mod queue;
mod run;
#[cfg(feature = "serve")]
mod serve;
mod signal_name;
mod size;
mod stdio;
mod wait;

use std::env;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use crate::cli::{Cli, Command};
use crate::diagnostics::{say, styled_out};
use crate::failure::Failure;

fn main() -> ExitCode {
    // Both before the first thread starts.
    dispositions::reset();
    if let Err(error) = init::run_in_process_1() {
        let failure = Failure::resource(format!("process 1 cannot start a child: {error}"));
        return failure
            .remedy("raise the limit on processes of the container")
            .report()
            .into();
    }
    let command = match Cli::try_parse() {
        Ok(Cli { command }) => command,
        Err(error) if error.kind() == ErrorKind::DisplayHelp => {
            return show(&all_options(error)).into();
        }
        Err(error) => {
            let subcommand = env::args_os().nth(1);
            return show(&help::explain_separator(error, subcommand.as_deref())).into();
        }
    };
    let ended = match command {
        Command::Run(options) => run::run(*options),
        #[cfg(feature = "queue")]
        Command::Submit(options) => queue::submit(&options),
        #[cfg(feature = "queue")]
        Command::Results(options) => queue::results(&options),
        #[cfg(feature = "queue")]
        Command::Queue(options) => queue::queue(&options),
        Command::Wait(options) => wait::wait(&options),
        Command::Doctor(options) => doctor::doctor(&options),
        #[cfg(feature = "serve")]
        Command::Serve(options) => serve::run(&options).map_err(Failure::from),
        Command::Watch(options) => client::watch(&options).map_err(Failure::from),
        Command::Exits(options) => client::exits(&options).map_err(Failure::from),
        Command::Completions(options) => completions::print(&options, Cli::command()),
        Command::Man(options) => man::man(&options, Cli::command()),
        Command::DrainPipes => run::drain(),
        Command::ProtocolSchema => client::schema().map_err(Failure::from),
    };
    ended.unwrap_or_else(|failure| failure.report()).into()
}

/// The help that was asked for. The error that clap returns for `--help` has the long texts, which
/// are those of the man pages.
fn all_options(help: clap::Error) -> clap::Error {
    match help::wants_all(env::args_os().skip(1)) {
        true => help::with_all_options(Cli::command())
            .try_get_matches()
            .err()
            .unwrap_or(help),
        false => help,
    }
}

/// Prints help, the version, or an error in the command line. Returns the exit code.
fn show(error: &clap::Error) -> u8 {
    let text = error.render().ansi().to_string();
    match error.use_stderr() {
        true => say(&text),
        // A reader that closes the pipe early has seen enough.
        false => drop(stdio::write_out(styled_out(&text).as_bytes())),
    }
    u8::try_from(error.exit_code()).unwrap_or(code::USAGE)
}
