//! Thousands of watches are given up at once, while unrelated children exit one after the other.
//!
//! All are watches of one child, which lives on. Nothing is to be heard of them; what is measured is how long the exits of the
//! others take meanwhile, and how long the watcher takes to end.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Order;
use super::bench::{Bench, fork};
use crate::board::Gate;
use crate::clock::now_ns;
use crate::run::Run;
use crate::tally::Tally;

const LEAD: Duration = Duration::from_millis(100);
const EVERY: Duration = Duration::from_millis(5);

#[derive(Clone, Debug, PartialEq, Args, Serialize, Deserialize, JsonSchema)]
pub(crate) struct AbandonOptions {
    /// Watches that are given up, all in a row
    #[arg(long, value_name = "N", default_value_t = 400_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) watches: u32,
    /// Unrelated exits, one every 5 ms from the moment when the first watch is given up
    #[arg(long, value_name = "N", default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) exits: u32,
}

impl AbandonOptions {
    pub(super) fn children(&self) -> u64 {
        u64::from(self.exits) + 1
    }
}

pub(super) fn measure(order: &Order, options: &AbandonOptions) -> Result<Run> {
    let exits = 0..options.exits as usize;
    let lives = exits.end..exits.end + 1;
    let tally = Tally::new(lives.end, Duration::ZERO)?;
    let parked = fork(&tally, &[(lives.clone(), Gate::Live)])?;
    let mut bench = Bench::new(order, tally, &[(exits.clone(), Gate::Exits)])?;
    for pid in &parked {
        bench.contestant.watch(*pid, exits.end)?;
    }
    let given_up = bench
        .contestant
        .unheeded(parked[0], options.watches as usize)?;
    bench.contestant.settle()?;

    let start = now_ns() + LEAD.as_nanos() as u64;
    for (slot, nth) in bench.tally.board.slots()[exits.clone()].iter().zip(0..) {
        let offset = EVERY.as_nanos() as u64 * nth;
        slot.due_ns.store(start + offset, Ordering::Release);
    }
    bench.tally.board.open(Gate::Exits);
    std::thread::sleep(LEAD);
    bench.start()?;
    drop(given_up);
    bench.wait_for(exits.len() as u64);
    bench.stop(&exits)?;
    let run = bench.run_mut();
    run.drain_ns = 0;
    // Most of it is for the watches.
    run.cpu_ns_per_exit = 0;
    bench.finish(lives.end as u64, lives.end)
}
