//! Compares `exitring run` with its peers and with the floor.
//!
//! ```sh
//! cargo bench -p exitring-cli --bench run
//! cargo bench -p exitring-cli --bench run -- --rounds 15 --against OTHER/exitring
//! cargo bench -p exitring-cli --bench run -- --options
//! cargo bench -p exitring-cli --bench run -- --memory 1000000
//! ```
//!
//! The contestants run in turns, in another random order in each round. The tables give medians,
//! the least and the most of all rounds, and the medians of the ratios of each round, from six rounds
//! on with a 95 % interval.

mod contestants;
mod floor;
mod memory;
mod nextest;
mod options;
mod spread;
mod statistics;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;
use clap::builder::RangedU64ValueParser;
use exitring::Watcher;

use self::contestants::{Builds, Contestant, PROGRAM, Table};
use self::nextest::EmptyTests;
use self::spread::Spread;
use self::statistics::{Ratio, median};

/// The name of `exitring run` without options.
const RUN: &str = "exitring run";

/// Compares `exitring run` with its peers and with the floor
#[derive(Parser)]
struct Options {
    /// Cargo passes this option
    #[arg(long, hide = true)]
    bench: bool,

    /// The number of rounds; intervals need 6
    #[arg(long, default_value_t = 9, value_parser = at_least_one())]
    rounds: usize,

    /// The number of jobs in a round
    #[arg(long, default_value_t = 3000, value_parser = at_least_one())]
    jobs: usize,

    /// How many jobs run at a time
    #[arg(short = 'j', default_value_t = 64, value_parser = at_least_one())]
    at_once: usize,

    /// The number of empty tests for nextest; 0: no such table
    #[arg(long, default_value_t = 3000)]
    tests: usize,

    /// Leave out contestants whose name contains this text; may be repeated
    #[arg(long, value_parser = not_in_run)]
    without: Vec<String>,

    /// Another build of `exitring` to measure in turns
    #[arg(long, value_name = "PATH")]
    against: Option<PathBuf>,

    /// Measure what options of `exitring run` cost, instead
    #[arg(long)]
    options: bool,

    /// Measure the memory of runs of so many jobs, instead
    #[arg(long, value_name = "JOBS", value_parser = at_least_one())]
    memory: Option<usize>,

    /// Be the floor: threads, jobs, program and arguments
    #[arg(long, num_args = 3.., allow_hyphen_values = true, hide = true)]
    floor: Option<Vec<String>>,
}

fn at_least_one() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..)
}

/// Refuses a text that leaves out the contestant to which all ratios are.
fn not_in_run(text: &str) -> Result<String, String> {
    match RUN.contains(text) {
        true => Err(format!(
            "it leaves out {RUN:?}, to which all others are compared; name more, as in \"run --discard\""
        )),
        false => Ok(text.to_owned()),
    }
}

/// What a contestant took in each round.
#[derive(Default)]
struct Measured {
    jobs_per_second: Vec<f64>,
    cpu_per_job: Vec<f64>,
}

fn main() {
    let options = Options::parse();
    if let Some([threads, jobs, command @ ..]) = options.floor.as_deref() {
        let number = |text: &String| text.parse().expect("a number");
        return floor::run(number(threads), number(jobs), command);
    }
    if !options.bench {
        return println!("cargo bench runs the measurement");
    }
    let builds = Builds {
        exitring: env!("CARGO_BIN_EXE_exitring").into(),
        against: options.against.clone(),
    };
    let dir = tempfile::tempdir().expect("a temporary directory");
    if let Some(jobs) = options.memory {
        return memory::measure(&builds, jobs, options.at_once, dir.path());
    }
    if options.options {
        let table = options::table(&builds, options.jobs, options.at_once, dir.path());
        println!(
            "{PROGRAM}, {} jobs, {} at a time, {} rounds\n",
            options.jobs, options.at_once, options.rounds
        );
        return compare(table, &options, options::print);
    }
    let table = contestants::of_program(&builds, options.jobs, options.at_once, dir.path());
    println!(
        "{PROGRAM}, {} at a time, {} rounds\n",
        options.at_once, options.rounds
    );
    compare(table, &options, print_table);
    if options.tests == 0 {
        return;
    }
    println!(
        "\n{} empty tests, {} at a time, {} rounds\n",
        options.tests, options.at_once, options.rounds
    );
    match EmptyTests::build(options.tests) {
        Ok(tests) => compare(
            contestants::of_tests(&builds, options.at_once, &tests),
            &options,
            print_table,
        ),
        Err(reason) => println!("Absent: cargo nextest: {reason}"),
    }
}

/// Runs the contestants in turns, and prints the table.
fn compare(mut table: Table, options: &Options, print: fn(&[Contestant], &[Measured])) {
    let left_out = |contestant: &Contestant| {
        options
            .without
            .iter()
            .any(|text| contestant.name.contains(text))
    };
    table.contestants.retain(|contestant| !left_out(contestant));
    let contestants = &table.contestants;
    let watcher = Watcher::new().expect("the watcher is built");
    let mut measured: Vec<Measured> = contestants.iter().map(|_| Measured::default()).collect();
    let mut order: Vec<usize> = (0..contestants.len()).collect();
    // Fills the caches.
    for contestant in contestants {
        run(&watcher, contestant);
    }
    for _ in 0..options.rounds {
        fastrand::shuffle(&mut order);
        for &index in &order {
            let contestant = &contestants[index];
            let (wall, cpu) = run(&watcher, contestant);
            let jobs = contestant.jobs as f64;
            measured[index]
                .jobs_per_second
                .push(jobs / wall.as_secs_f64());
            measured[index].cpu_per_job.push(cpu.as_secs_f64() / jobs);
        }
    }
    print(contestants, &measured);
    for absent in &table.absent {
        println!("\nAbsent: {absent}.");
    }
}

/// Runs the jobs once. Returns the time, and the processor time of the contestant and its jobs.
fn run(watcher: &Watcher, contestant: &Contestant) -> (Duration, Duration) {
    let mut command = contestant.command();
    let start = Instant::now();
    let child = watcher.spawn(&mut command).expect("the contestant starts");
    let exit = child.wait().expect("the watcher runs");
    let wall = start.elapsed();
    assert!(exit.success(), "{}: {exit:?}", contestant.name);
    let usage = exit.usage().expect("the usage of a child is known");
    (wall, usage.user() + usage.system())
}

/// The contestant that is `exitring run` without options.
fn position_of_run(contestants: &[Contestant]) -> usize {
    let is_run = |contestant: &Contestant| contestant.name == RUN;
    let position = contestants.iter().position(is_run);
    position.expect("it is in every table, and cannot be left out")
}

fn print_table(contestants: &[Contestant], measured: &[Measured]) {
    let (first, run) = (&measured[0], &measured[position_of_run(contestants)]);
    println!(
        "| | jobs/s (least to most) | ratio to {} | ratio to exitring run | CPU per job | CPU ratio to {} |",
        contestants[0].name, contestants[0].name
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    for (contestant, measured) in contestants.iter().zip(measured) {
        let rates = &measured.jobs_per_second;
        println!(
            "| {} | {} | {} | {} | {:.0} µs | {} |",
            contestant.name,
            Spread::of(rates),
            Ratio::of(rates, &first.jobs_per_second),
            Ratio::of(rates, &run.jobs_per_second),
            median(&measured.cpu_per_job) * 1e6,
            Ratio::of(&measured.cpu_per_job, &first.cpu_per_job),
        );
    }
}
