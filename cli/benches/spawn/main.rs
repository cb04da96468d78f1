//! Compares two ways in which `exitring serve` could start a process that waits at a start gate.
//!
//! ```sh
//! cargo bench -p exitring-cli --bench spawn
//! ```
//!
//! - *fork*: what the service does. The child is a copy of the service until it executes the
//!   program.
//! - *stage*: `exitring::Command`, which needs no fork, starts a stage: this program again. The
//!   stage reads its setup from the start gate, waits there, and executes the program.
//!
//! A fork copies the page tables of the service, so the table has rows for services with more and
//! more memory. In each round both ways take turns, and the order alternates. The columns are the
//! medians of the rounds' medians: how long the calling thread is blocked, and how long it takes
//! until the program is executed. The processor time is that of both processes, with the program,
//! which does nothing.

#[path = "../run/statistics.rs"]
mod statistics;
mod ways;

use clap::Parser;

use self::statistics::{Ratio, median};
use self::ways::{Started, Ways};

/// The medians of one round, in microseconds, and the mean processor time of a start.
struct Times {
    blocked: f64,
    executed: f64,
    cpu: f64,
}

/// Compares a fork with a stage that is executed first
#[derive(Parser)]
struct Options {
    /// Cargo passes this option
    #[arg(long, hide = true)]
    bench: bool,

    /// The number of rounds
    #[arg(long, default_value_t = 15)]
    rounds: usize,

    /// The number of processes of each way in a round
    #[arg(long, default_value_t = 100)]
    processes: usize,

    /// Memory of the service, in MiB, without its program and libraries
    #[arg(long, value_delimiter = ',', default_values_t = [2, 8, 32, 128])]
    memory: Vec<usize>,
}

fn main() {
    // Before anything else, as the service would do it.
    if std::env::args()
        .nth(1)
        .is_some_and(|first| first == ways::STAGE)
    {
        ways::stage();
    }
    let options = Options::parse();
    if !options.bench {
        return println!("cargo bench runs the measurement");
    }
    let ways = Ways::new();
    let mut memory: Vec<Vec<u8>> = Vec::new();
    println!(
        "{} processes in each of {} rounds\n",
        options.processes, options.rounds
    );
    println!(
        "| memory | fork: blocked | stage: blocked | stage / fork | fork: until the exec | stage: until the exec | stage / fork | fork: CPU | stage: CPU | stage / fork |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for mib in &options.memory {
        // In small pieces, like the heap of the service.
        while memory.len() < mib * 16 {
            memory.push(vec![1; 64 << 10]);
        }
        let (fork, stage) = compare(&ways, &options);
        let ratio = |get: fn(&Times) -> f64| {
            let values = |times: &[Times]| times.iter().map(get).collect::<Vec<_>>();
            let (fork, stage) = (values(&fork), values(&stage));
            let ratio = Ratio::of(&stage, &fork);
            format!(
                "{:.0} µs | {:.0} µs | {ratio}",
                median(&fork),
                median(&stage)
            )
        };
        println!(
            "| {mib} MiB | {} | {} | {} |",
            ratio(|times| times.blocked),
            ratio(|times| times.executed),
            ratio(|times| times.cpu)
        );
    }
}

/// The medians of each round, of both ways.
fn compare(ways: &Ways, options: &Options) -> (Vec<Times>, Vec<Times>) {
    let fork = || round(options.processes, || ways.fork());
    let stage = || round(options.processes, || ways.stage());
    // Fills the caches.
    fork();
    stage();
    let rounds = (0..options.rounds).map(|nth| match nth % 2 {
        0 => (fork(), stage()),
        _ => {
            let stage = stage();
            (fork(), stage)
        }
    });
    rounds.unzip()
}

fn round(processes: usize, start: impl Fn() -> Started) -> Times {
    let cpu_before = ways::cpu_time();
    let all: Vec<Started> = (0..processes).map(|_| start()).collect();
    let cpu = ways::cpu_time() - cpu_before;
    let of = |get: fn(&Started) -> f64| median(&all.iter().map(get).collect::<Vec<_>>());
    Times {
        blocked: of(|started| started.blocked),
        executed: of(|started| started.executed),
        cpu: cpu / processes as f64,
    }
}
