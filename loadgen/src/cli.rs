//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Measure how an exit watcher takes fork and exit storms.
///
/// Exit code: 0 if every exit was delivered once and right, 1 if not, 2 if the run could not be made.
#[derive(Debug, Parser)]
#[command(version, name = "loadgen")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) scenario: Scenario,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Scenario {
    /// Fork children, park them, release all at once, and follow every exit.
    Storm(StormOptions),
    /// Spawn and wait while many children are alive, against none.
    Spawn(SpawnOptions),
}

#[derive(Debug, Args)]
pub(crate) struct StormOptions {
    /// How many children exit at once.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) children: u32,

    /// Who watches.
    #[arg(long, value_enum, default_value_t = ContestantName::Exitring)]
    pub(crate) contestant: ContestantName,

    /// How many threads run callbacks; 0: the ring thread does.
    #[arg(long, value_name = "W", default_value_t = 1)]
    pub(crate) workers: usize,

    /// Write the result as JSON, too.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct SpawnOptions {
    /// How many children are alive meanwhile.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000_000))]
    pub(crate) live: u32,

    /// How many spawns are timed in each turn.
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) spawns: u32,

    /// How many turns there are, each without and with live children.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) repeat: u32,

    /// Write the result as JSON, too.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ContestantName {
    /// This library, owning the children.
    Exitring,
    /// This library, watching only; the callback reaps.
    ExitringWatch,
    /// A thread in `waitpid(-1)`: what the machine can do at best.
    WaitLoop,
}
