//! The command line.

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::measure::shared_table::Gate;
use crate::report::bootstrap::MIN_VALUES;
use crate::report::condition::Condition;
use crate::types::baseline_name::BaselineName;
use crate::types::kind::Kind;
use crate::types::options::SteadyOptions;
use crate::types::run_spec::RunSpec;
use crate::types::scenario::Scenario;
use crate::types::width::Width;

/// The most rounds of a measurement.
const MAX_ROUNDS: i64 = 10_000;

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
  loadgen compare storm --until-width 5%
      rounds are added until each interval of the drain time's ratio is narrower than 5 %
  loadgen --save-baseline main
      keep this build, to compare later builds with it
  loadgen churn --baseline main --repeat 11
      exitring of this build and of the saved one, in turns
  loadgen serve
      exitring serve with 100 clients, compared with the library
  loadgen report storm.json --html report.html
      saved results as an HTML page

Exit code: 0 if every exit was delivered exactly once and with the right status; 1 if not, or if a --fail-if condition holds; 2 if the command line is wrong or a measurement failed; 130 after an interrupt (the results so far are written).";

/// Measure how exit watchers handle storms and streams of process exits
#[derive(Debug, Parser)]
#[command(version, name = "loadgen", after_help = AFTER_HELP, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) options: Options,
}

impl Cli {
    /// Parses the command line. Ends the program if it is wrong.
    pub(crate) fn from_arguments() -> Self {
        let matches = Self::command().get_matches();
        let cli = Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        let checked = check_scale(&matches).and_then(|()| cli.check());
        if let Err((kind, why)) = checked {
            Self::command().error(kind, why).exit();
        }
        cli
    }

    /// Checks what the options mean together.
    fn check(&self) -> Result<(), (ErrorKind, String)> {
        let options = &self.options;
        if self.command.is_none() && options.save_baseline.is_none() {
            let why = "a command is missing; only --save-baseline does without".into();
            return Err((ErrorKind::MissingSubcommand, why));
        }
        if let (Some(saved), Some(baseline)) = (&options.save_baseline, &options.baseline)
            && saved == baseline
        {
            let why = format!(
                "--save-baseline {saved} replaces the build of --baseline {saved} by this one before they are compared; save it under another name, or afterwards"
            );
            return Err((ErrorKind::ArgumentConflict, why));
        }
        if let Some(Command::Scale(scale)) = &self.command
            && let Some(size) = repeated(&scale.sizes)
        {
            let why = format!("--sizes names {size} twice; name each size once, and use --repeat");
            return Err((ErrorKind::ValueValidation, why));
        }
        let repeat = options.repeat.unwrap_or(1);
        if options.until_width.is_some() && repeat > options.max_rounds {
            let why = format!(
                "--repeat {repeat} is more than --max-rounds {}; raise --max-rounds",
                options.max_rounds
            );
            return Err((ErrorKind::ValueValidation, why));
        }
        Ok(())
    }
}

/// Refuses an option of the steady scenario that has no effect on `scale`.
fn check_scale(matches: &ArgMatches) -> Result<(), (ErrorKind, String)> {
    match matches.subcommand() {
        Some(("scale", scale)) if scale.value_source("live") == Some(ValueSource::CommandLine) => {
            let why = "scale has no --live; name the numbers of live children with --sizes".into();
            Err((ErrorKind::UnknownArgument, why))
        }
        _ => Ok(()),
    }
}

/// The first number that is there twice.
fn repeated(numbers: &[u32]) -> Option<u32> {
    let is_repeated = |&nth: &usize| numbers[..nth].contains(&numbers[nth]);
    (0..numbers.len()).find(is_repeated).map(|nth| numbers[nth])
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

    /// Rounds, in each of which every contestant makes a run [default: 1; compare and serve: 3; with
    /// another build: 6]
    ///
    /// An interval needs 6 rounds. With --until-width this is the least number of rounds, and at
    /// least 6.
    #[arg(long, global = true, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=MAX_ROUNDS))]
    pub(crate) repeat: Option<u32>,

    /// Add rounds until the interval of the main metric's ratio is narrower than this, for every
    /// contestant, as in 5%
    ///
    /// The width is the distance of the two ends of the interval, in percent of the ratio. The main
    /// metric is the one with a range in the table. The decision to stop depends only on widths, not
    /// on what the ratios show. A warning names the contestants whose intervals stayed wider.
    #[arg(long, global = true, value_name = "PERCENT")]
    pub(crate) until_width: Option<Width>,

    /// The most rounds of --until-width; not less than --repeat
    #[arg(long, global = true, value_name = "K", default_value_t = 40, requires = "until_width", value_parser = clap::value_parser!(u32).range(MIN_VALUES as i64..=MAX_ROUNDS))]
    pub(crate) max_rounds: u32,

    /// Compare with another build of loadgen: each contestant runs in both, in turns (A A' B B'), and
    /// is compared with itself in the other build
    ///
    /// The other build may be older. It must know the scenario, its options and the contestant.
    #[arg(
        long,
        global = true,
        value_name = "PROGRAM",
        conflicts_with = "baseline"
    )]
    pub(crate) against: Option<PathBuf>,

    /// Compare with the build that was saved under this name, as --against does
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) baseline: Option<BaselineName>,

    /// Save a copy of this program under a name for --baseline, before anything is measured; also
    /// without a command
    ///
    /// The copies are in $XDG_CACHE_HOME/exitring-loadgen/baselines, by default in ~/.cache. An
    /// older copy of the same name is replaced. The program exitring beside this one, which the
    /// contestants of serve use, is copied too.
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) save_baseline: Option<BaselineName>,

    /// Threads that run exitring's callbacks; 0 runs them on the ring thread
    #[arg(long, global = true, value_name = "W", default_value_t = 1, value_parser = clap::value_parser!(u16).range(..=1024))]
    pub(crate) workers: u16,

    /// Save the results as JSON, after each run
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Save the latencies of each contestant in this directory, in HdrHistogram's .hgrm format
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) hgrm: Option<PathBuf>,

    /// Exit with code 1 if this condition holds, as in 'p99>200us' or 'tokio:ratio-low<=1'; applies
    /// to the first contestant unless one is named
    ///
    /// The left side is a metric (the median over the rounds), or METRIC-ratio (the median of the
    /// ratios to the reference in the same round), METRIC-ratio-low or METRIC-ratio-high (the ends
    /// of its interval). Without METRIC- it is the main metric of the scenario: 'ratio-high>=1'
    /// fails unless exitring has become faster than the other build of --against. The reference is
    /// the first contestant, or the same contestant of the other build. Conditions on the ratio of the
    /// reference to itself are refused. A condition also fails for a size in which its contestant
    /// made no run.
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
    #[command(mut_arg("live", |live| live.hide(true)))]
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
