//! Load generator for exit watchers: makes fork and exit storms, checks every exit, and
//! says how fast and how dear the watcher was.

mod bare;
mod board;
mod children;
mod cli;
mod clock;
mod conductor;
mod contestants;
mod environment;
mod gate;
mod hgrm;
mod html;
mod inheritance;
mod interrupt;
mod latency;
mod metric;
mod output;
mod preflight;
mod process;
mod progress;
mod report;
mod run;
mod scenarios;
mod start;
mod table;
mod tally;
mod warning;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use crate::cli::{Cli, Command, ScaleOptions};
use crate::conductor::{Plan, conduct};
use crate::report::Report;
use crate::scenarios::Scenario;

fn main() -> ExitCode {
    let cli = Cli::parse();
    run(cli).unwrap_or_else(|error| {
        eprintln!("loadgen: {error:#}");
        ExitCode::from(2)
    })
}

fn run(cli: Cli) -> Result<ExitCode> {
    let options = &cli.options;
    match cli.command {
        Command::Single(scenario) => conduct(&Plan::single(scenario, options), options),
        Command::Compare { scenario } => conduct(&Plan::compare(scenario, options), options),
        Command::Scale(scale) => conduct(&Plan::scale(sizes(&scale), options), options),
        Command::Report(options) => {
            let reports = options.files.iter().map(|file| Report::load(file));
            html::write(&reports.collect::<Result<Vec<_>>>()?, &options.html)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Schema => {
            let schema = schemars::schema_for!(Report);
            output::print(&serde_json::to_string_pretty(&schema)?)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Measure { order } => conductor::measure(&order),
        Command::StandBy { board, index, gate } => children::stand_by(&board, index, gate),
    }
}

fn sizes(scale: &ScaleOptions) -> Vec<Scenario> {
    let mut steady = scale.steady.clone();
    let sizes = scale.sizes.iter().map(|&live| {
        steady.live = live;
        Scenario::Steady(steady.clone())
    });
    sizes.collect()
}
