//! Children that exit at once, so many at a time: fork, watch, exit, callback, reap.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Order;
use super::bench::Bench;
use crate::board::Gate;
use crate::interrupt::interrupted;
use crate::run::Run;
use crate::tally::Tally;

/// More than any machine forks.
const PER_SECOND_MAX: f64 = 100_000.0;

#[derive(Clone, Debug, PartialEq, Args, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ChurnOptions {
    /// How many are on their way at a time
    #[arg(long, value_name = "C", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) concurrency: u32,
    /// For how many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    pub(crate) duration: f64,
    /// How many other children are alive meanwhile
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) live: u32,
}

impl ChurnOptions {
    pub(super) fn check(&self) -> Result<()> {
        ensure!(
            self.duration > 0.0 && self.duration <= 3600.0,
            "--duration {} is no number of seconds above 0 and up to an hour",
            self.duration
        );
        Ok(())
    }
}

pub(super) fn measure(order: &Order, options: &ChurnOptions) -> Result<Run> {
    let live = options.live as usize;
    // Memory that is never written takes none.
    let slots = live + (options.duration * PER_SECOND_MAX) as usize;
    let tally = Tally::new(slots, Duration::ZERO)?;
    let mut bench = Bench::new(order, tally, &[(0..live, Gate::Live)])?;

    bench.start()?;
    let start = Instant::now();
    let mut next = live;
    while start.elapsed().as_secs_f64() < options.duration && next < slots && !interrupted() {
        bench.spawn(next, Gate::None)?;
        next += 1;
        let started = (next - live) as u64;
        let room = (started + 1).saturating_sub(options.concurrency.into());
        if !bench.tally.wait_for(room, |_| ()) {
            break;
        }
    }
    bench.wait_for((next - live) as u64);
    bench.stop(&(live..next))?;
    let run = bench.run_mut();
    let seconds = run.drain_ns as f64 / 1e9;
    run.children_per_s = Some(run.exits as f64 / seconds);
    run.drain_ns = 0;
    bench.finish(next as u64, next)
}
