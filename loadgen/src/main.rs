//! Load generator for exit watchers: makes fork and exit storms, checks every exit, and
//! says how fast and how dear the watcher was.

mod children;
mod cli;
mod contestants;
mod environment;
mod latency;
mod limits;
mod process;
mod progress;
mod report;
mod spawn;
mod storm;
mod tally;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let clean = match &cli.scenario {
        cli::Scenario::Storm(options) => storm::run(options).map(|report| report.is_clean()),
        cli::Scenario::Spawn(options) => spawn::run(options).map(|report| report.is_clean()),
    };
    match clean {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("loadgen: {error:#}");
            ExitCode::from(2)
        }
    }
}
