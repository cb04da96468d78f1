//! What a spawn costs while children are alive, against none.
//!
//! Measured in turns, none and live, several times, in one process with one contestant. What is timed is
//! the spawn of `true`, from the call to the knowing of its exit.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Order;
use super::bench::Bench;
use crate::board::{EXECED, Gate};
use crate::clock::now_ns;
use crate::interrupt::interrupted;
use crate::latency::Latencies;
use crate::run::{Run, SpawnCost};
use crate::start::Start;
use crate::tally::Tally;

#[derive(Clone, Debug, PartialEq, Args, Serialize, Deserialize, JsonSchema)]
pub(crate) struct SpawnOptions {
    /// How many children are alive meanwhile
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000_000))]
    pub(crate) live: u32,
    /// How many spawns are timed in each turn
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) spawns: u32,
    /// How many turns there are, each without and with live children
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) turns: u32,
}

pub(super) fn measure(order: &Order, options: &SpawnOptions) -> Result<Run> {
    let (live, spawns) = (options.live as usize, options.spawns as usize);
    let warm_up = spawns.div_ceil(10);
    // Spawned ones in front, those that live behind.
    let spawned = warm_up + 2 * spawns * options.turns as usize;
    let slots = spawned + live * options.turns as usize;
    let mut bench = Bench::new(order, Tally::new(slots, Duration::ZERO)?, &[])?;

    let mut timer = Timer::default();
    // What is new (pages, caches) is not measured.
    timer.spawn(&mut bench, warm_up, &mut Samples::new()?)?;
    let (mut none, mut with_live) = (Samples::new()?, Samples::new()?);
    let mut fds_live = 0;
    let mut next_live = spawned;
    for _ in 0..options.turns {
        timer.spawn(&mut bench, spawns, &mut none)?;
        bench.add(&[(next_live..next_live + live, Gate::Live)])?;
        next_live += live;
        fds_live = bench.fds_held()?;
        bench.start()?;
        timer.spawn(&mut bench, spawns, &mut with_live)?;
        bench.stop(&(timer.next.saturating_sub(spawns)..timer.next))?;
        if timer.stopped {
            break;
        }
        // Each turn ends without any, and the next has new ones at a gate that is closed again.
        bench.tally.board.open(Gate::Live);
        timer.done += live as u64;
        bench.wait_for(timer.done);
        bench.tally.board.close(Gate::Live);
    }
    let came = bench
        .tally
        .count(&bench.tally.board.slots()[warm_up..spawned], u64::MAX);
    let latencies = with_live.total;
    let (without, with) = (none.total.percentiles(), latencies.percentiles());
    let ratio = with
        .p50
        .zip(without.p50)
        .map(|(live, none)| live as f64 / none as f64);
    let cost = SpawnCost {
        without_live_ns: without,
        call_ns: with_live.call.percentiles(),
        call_without_live_ns: none.call.percentiles(),
    };
    let run = bench.run_mut();
    run.spawn_cost_ratio = ratio;
    run.spawn_cost = Some(cost);
    run.children = (2 * spawns * options.turns as usize) as u64;
    run.exits = came.exits;
    run.fds_held = fds_live;
    run.drain_ns = 0;
    run.stages.clear();
    run.latencies(latencies)?;
    bench.finish(timer.done, slots)
}

struct Samples {
    total: Latencies,
    call: Latencies,
}

impl Samples {
    fn new() -> Result<Self> {
        Ok(Self {
            total: Latencies::new()?,
            call: Latencies::new()?,
        })
    }
}

#[derive(Default)]
struct Timer {
    next: usize,
    /// Exits that were delivered so far.
    done: u64,
    /// Interrupted, or an exit did not come: nothing more is spawned.
    stopped: bool,
}

impl Timer {
    fn spawn(&mut self, bench: &mut Bench<'_>, count: usize, samples: &mut Samples) -> Result<()> {
        for _ in 0..count {
            if self.stopped {
                return Ok(());
            }
            let index = self.next;
            let slot = |bench: &Bench<'_>| {
                bench.tally.board.slots()[index]
                    .known_ns
                    .load(Ordering::Acquire)
            };
            bench.tally.board.slots()[index]
                .due_ns
                .store(EXECED, Ordering::Release);
            let before = now_ns();
            bench.contestant.spawn(&Start::True { index })?;
            samples.call.record(now_ns() - before)?;
            self.next += 1;
            self.done += 1;
            let came = bench.tally.wait_for(self.done, |_| ());
            if !came || interrupted() {
                self.stopped = true;
                return Ok(());
            }
            samples.total.record(slot(bench).saturating_sub(before))?;
        }
        Ok(())
    }
}
