//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::measure::shared_table::Gate;
use crate::report::condition::Condition;
use crate::types::kind::Kind;
use crate::types::options::SteadyOptions;
use crate::types::run_spec::RunSpec;
use crate::types::scenario::Scenario;

const AFTER_HELP: &str = "\
Examples:
  loadgen storm
      10,000 children exit at the same time, watched by exitring
  loadgen storm --with wait-loop --repeat 5
      the same with a bare waitpid loop, five times
  loadgen compare steady --live 10000 --rate 200
      all contestants, in turns
  loadgen compare storm --with exitring,tokio --repeat 5 --json storm.json
      two contestants, results saved as JSON
  loadgen storm --fail-if 'p99>500ms' --fail-if 'fds>4'
      exit code 1 if a condition holds
  loadgen serve
      exitring serve with 100 clients, compared with the library
  loadgen report storm.json --html report.html
      saved results as an HTML page

Exit code: 0 if every exit was delivered exactly once and with the right status; 1 if not, or if a --fail-if condition holds; 2 if the command line is wrong or a measurement failed; 130 after an interrupt (the results so far are written).";

/// Measure how exit watchers handle storms and streams of process exits
#[derive(Debug, Parser)]
#[command(version, name = "loadgen", after_help = AFTER_HELP)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) options: Options,
}

/// The options of all measurements.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// Contestants to measure; several run in turns
    #[arg(
        long,
        global = true,
        visible_alias = "contestant",
        value_enum,
        value_name = "NAME,NAME,…",
        value_delimiter = ','
    )]
    pub(crate) with: Vec<Kind>,

    /// Runs of each contestant [default: 1; compare and serve: 3]
    #[arg(long, global = true, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) repeat: Option<u32>,

    /// Threads that run exitring's callbacks; 0 runs them on the ring thread
    #[arg(long, global = true, value_name = "W", default_value_t = 1, value_parser = clap::value_parser!(u16).range(..=1024))]
    pub(crate) workers: u16,

    /// Save the results as JSON, after each run
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Save the latencies of each contestant in this folder, in HdrHistogram's .hgrm format
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) hgrm: Option<PathBuf>,

    /// Exit with code 1 if this condition holds, as in 'p99>200us' or 'tokio:ratio<1'; applies to
    /// the first contestant unless one is named, and to the median over the rounds
    #[arg(long, global = true, value_name = "CONDITION")]
    pub(crate) fail_if: Vec<Condition>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Single(Scenario),
    /// Compare all contestants in Rust, or those of --with, in turns (A B A B), each run in its own
    /// process
    Compare {
        #[command(subcommand)]
        scenario: Scenario,
    },
    /// Measure a steady stream of exits with more and more live children: latency, CPU time,
    /// memory, descriptors
    Scale(ScaleOptions),
    /// Make an HTML page from saved results
    Report(ReportOptions),
    /// Print the JSON schema of saved results
    Schema,
    /// Make one run in this process, for another loadgen process
    #[command(hide = true)]
    Measure {
        #[arg(value_parser = parse_spec)]
        spec: Box<RunSpec>,
    },
    /// Be a child of a contestant that is another program
    #[command(hide = true)]
    StandBy {
        table: PathBuf,
        index: usize,
        gate: Gate,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ScaleOptions {
    /// Numbers of children that stay alive, measured one after the other
    #[arg(
        long,
        value_name = "N,N,…",
        value_delimiter = ',',
        default_value = "100,1000,10000,20000"
    )]
    pub(crate) sizes: Vec<u32>,
    #[command(flatten)]
    pub(crate) steady: SteadyOptions,
}

#[derive(Debug, Args)]
pub(crate) struct ReportOptions {
    /// Results that were saved with --json
    #[arg(required = true, value_name = "FILES")]
    pub(crate) files: Vec<PathBuf>,
    /// File to write the page to
    #[arg(long, value_name = "OUT")]
    pub(crate) html: PathBuf,
}

fn parse_spec(text: &str) -> Result<Box<RunSpec>, serde_json::Error> {
    serde_json::from_str(text)
}
