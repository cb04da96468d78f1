//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::board::Gate;
use crate::contestants::Kind;
use crate::gate::Gate as FailIf;
use crate::scenarios::{Order, Scenario, SteadyOptions};

const EXAMPLES: &str = "\
Examples:
  loadgen storm                                      10,000 children exit at once, watched by exitring
  loadgen storm --with wait-loop --repeat 5          the same, by a bare waitpid loop, five times
  loadgen compare steady --live 10000 --rate 200     all contestants, in turns
  loadgen compare storm --with exitring,tokio --repeat 5 --json storm.json
  loadgen storm --fail-if 'p99>500ms' --fail-if 'fds>3'
  loadgen serve                                      exitring serve with 100 clients, against the library itself
  loadgen report storm.json --html report.html

Exit code: 0 if every exit was delivered once and right; 1 if not, or a --fail-if came true; 2 if the command line
is wrong or something could not be measured; 130 if interrupted (what there is is written).";

/// Measure how an exit watcher takes storms and streams of exits
#[derive(Debug, Parser)]
#[command(version, name = "loadgen", after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) options: Options,
}

/// What all measurements have.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// Who watches; several take turns
    #[arg(
        long,
        global = true,
        visible_alias = "contestant",
        value_enum,
        value_name = "NAME,NAME,…",
        value_delimiter = ','
    )]
    pub(crate) with: Vec<Kind>,

    /// How often each contestant has its turn [default: 1, of comparisons 3]
    #[arg(long, global = true, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) repeat: Option<u32>,

    /// How many threads run exitring's callbacks; 0: the ring thread does
    #[arg(long, global = true, value_name = "W", default_value_t = 1, value_parser = clap::value_parser!(u16).range(..=1024))]
    pub(crate) workers: u16,

    /// Save what is found as JSON, after each run
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Save each contestant's latencies in HdrHistogram's .hgrm format in this folder
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) hgrm: Option<PathBuf>,

    /// End with exit code 1 if this holds, as in 'p99>200us' or 'tokio:ratio<1' (of the first contestant unless named;
    /// the median decides)
    #[arg(long, global = true, value_name = "CONDITION")]
    pub(crate) fail_if: Vec<FailIf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Single(Scenario),
    /// All contestants in Rust, or those of --with, in turns (A B A B), each in a process of its own
    Compare {
        #[command(subcommand)]
        scenario: Scenario,
    },
    /// A steady stream of exits with more and more children alive: latency, CPU, memory, descriptors
    Scale(ScaleOptions),
    /// One page of HTML from saved results
    Report(ReportOptions),
    /// Print the JSON schema of saved results
    Schema,
    /// One run in this process; what the others are made of
    #[command(hide = true)]
    Measure {
        #[arg(value_parser = parse_order)]
        order: Box<Order>,
    },
    /// A child of a contestant that is another program
    #[command(hide = true)]
    StandBy {
        board: PathBuf,
        index: usize,
        gate: Gate,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ScaleOptions {
    /// How many children live on, one size after the other
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
    /// Results saved with --json
    #[arg(required = true, value_name = "FILES")]
    pub(crate) files: Vec<PathBuf>,
    /// The page to write
    #[arg(long, value_name = "OUT")]
    pub(crate) html: PathBuf,
}

fn parse_order(text: &str) -> Result<Box<Order>, serde_json::Error> {
    serde_json::from_str(text)
}
