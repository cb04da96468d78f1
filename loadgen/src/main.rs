//! Load generator for exit watchers. It makes storms and streams of process exits, checks the
//! delivery of every exit, and measures the latency and the cost of the watcher.
//!
//! Calls go one way: `main` parses the command line (`cli`) and calls `rounds`, which runs
//! `scenarios`; a scenario uses one of the `contestants`, and both use the primitives of `measure`.
//! `rounds` fills a `report`, which presents the results. `types` holds the data of all.

mod cli;
mod contestants;
mod measure;
mod preflight;
mod report;
mod rounds;
mod scenarios;
mod types;

use std::process::ExitCode;

use anyhow::Result;

use crate::cli::{Cli, Command, ScaleOptions};
use crate::measure::children;
use crate::report::results::Report;
use crate::report::{html, stdout};
use crate::rounds::Plan;
use crate::types::scenario::Scenario;

fn main() -> ExitCode {
    let cli = Cli::from_arguments();
    run(cli).unwrap_or_else(|error| {
        eprintln!("loadgen: {error:#}");
        ExitCode::from(2)
    })
}

fn run(cli: Cli) -> Result<ExitCode> {
    let options = &cli.options;
    if let Some(name) = &options.save_baseline {
        let program = rounds::save_baseline(name)?;
        eprintln!("saved as baseline {name}: {}", program.display());
    }
    let Some(command) = cli.command else {
        return Ok(ExitCode::SUCCESS);
    };
    match command {
        Command::Single(scenario) => rounds::run(&Plan::single(scenario, options), options),
        Command::Compare { scenario } => rounds::run(&Plan::compare(scenario, options), options),
        Command::Scale(scale) => rounds::run(&Plan::scale(sizes(&scale), options), options),
        Command::Report(options) => {
            let reports = options.files.iter().map(|file| Report::load(file));
            html::write(&reports.collect::<Result<Vec<_>>>()?, &options.html)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Schema => {
            let schema = schemars::schema_for!(Report);
            stdout::print(&serde_json::to_string_pretty(&schema)?)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Measure { spec } => rounds::measure(&spec),
        Command::StandBy { table, index, gate } => children::stand_by(&table, index, gate),
    }
}

/// The steady scenario in each size.
fn sizes(scale: &ScaleOptions) -> Vec<Scenario> {
    let mut steady = scale.steady.clone();
    let sizes = scale.sizes.iter().map(|&live| {
        steady.live = live;
        Scenario::Steady(steady.clone())
    });
    sizes.collect()
}
