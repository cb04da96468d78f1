//! Registrations, timed one by one, while callbacks are slow.
//!
//! Children exit one after the other just as fast as a single thread gets through their callbacks, each of which
//! sleeps; meanwhile others, that are parked, are registered at an even pace.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Order;
use super::bench::{Bench, fork};
use crate::board::Gate;
use crate::clock::now_ns;
use crate::interrupt::interrupted;
use crate::latency::Latencies;
use crate::run::Run;
use crate::tally::Tally;

const LEAD: Duration = Duration::from_millis(100);

#[derive(Clone, Debug, PartialEq, Args, Serialize, Deserialize, JsonSchema)]
pub(crate) struct RegisterOptions {
    /// How long each callback sleeps, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) callback_sleep: u32,
    /// Registrations a second
    #[arg(long, value_name = "R", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: u32,
    /// For how many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 4.0)]
    pub(crate) duration: f64,
}

impl RegisterOptions {
    fn sleep(&self) -> Duration {
        Duration::from_millis(self.callback_sleep.into())
    }

    /// Enough to keep one thread in callbacks all the time.
    pub(super) fn exits(&self) -> u64 {
        (self.duration / self.sleep().as_secs_f64()) as u64
    }

    pub(super) fn registrations(&self) -> u64 {
        (f64::from(self.rate) * self.duration) as u64
    }

    pub(super) fn check(&self) -> Result<()> {
        ensure!(
            self.duration > 0.0 && self.duration <= 3600.0,
            "--duration {} is no number of seconds above 0 and up to an hour",
            self.duration
        );
        ensure!(
            self.registrations() > 0 && self.exits() > 0,
            "--duration {} leaves no time for a registration and a callback of --callback-sleep {} ms",
            self.duration,
            self.callback_sleep
        );
        Ok(())
    }
}

pub(super) fn measure(order: &Order, options: &RegisterOptions) -> Result<Run> {
    let exits = 0..options.exits() as usize;
    let registered = exits.end..exits.end + options.registrations() as usize;
    let tally = Tally::new(registered.end, options.sleep())?;
    // Forked first, as all others: what is timed is the registration.
    let parked = fork(&tally, &[(registered.clone(), Gate::Live)])?;
    let mut bench = Bench::new(order, tally, &[(exits.clone(), Gate::Exits)])?;

    let start = now_ns() + LEAD.as_nanos() as u64;
    for (slot, nth) in bench.tally.board.slots()[exits.clone()].iter().zip(0..) {
        let offset = options.sleep().as_nanos() as u64 * nth;
        slot.due_ns.store(start + offset, Ordering::Release);
    }
    bench.tally.board.open(Gate::Exits);
    std::thread::sleep(LEAD);
    bench.start()?;
    let end = start + (options.duration * 1e9) as u64;
    let every_ns = 1e9 / f64::from(options.rate);
    let mut latencies = Latencies::new()?;
    for (nth, (index, pid)) in registered.clone().zip(parked).enumerate() {
        let due = start + (every_ns * nth as f64) as u64;
        std::thread::sleep(Duration::from_nanos(due.saturating_sub(now_ns())));
        let before = Instant::now();
        bench.contestant.watch(pid, index)?;
        // Who is late comes to a time without callbacks, which says nothing any more.
        if now_ns() < end {
            latencies.record(before.elapsed().as_nanos() as u64)?;
        }
        if interrupted() {
            break;
        }
    }
    bench.wait_for(exits.len() as u64);
    bench.stop(&exits)?;
    bench.tally.sleep_no_more();
    let run = bench.run_mut();
    run.drain_ns = 0;
    // Most of it is that of registrations.
    run.cpu_ns_per_exit = 0;
    run.watch_latencies(latencies)?;
    bench.finish(registered.end as u64, registered.end)
}
