//! Load generator for exit watchers: makes fork and exit storms, checks every exit, and
//! says how fast and how dear the watcher was.

mod children;
mod cli;
mod contestants;
mod environment;
mod latency;
mod limits;
mod report;
mod storm;
mod tally;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let report = match &cli.scenario {
        cli::Scenario::Storm(options) => storm::run(options),
    };
    match report {
        Ok(report) => match report.is_clean() {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        },
        Err(error) => {
            eprintln!("loadgen: {error:#}");
            ExitCode::from(2)
        }
    }
}
