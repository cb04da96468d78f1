//! Exits at planned moments, while others live on.
//!
//! The load is an open loop without anybody who makes it: each child sleeps until its own moment, whatever the
//! watcher does, so that a watcher that falls behind is not spared (no coordinated omission), and no thread
//! that paces takes a processor. Latency is told from the planned moment, and from the child's
//! last instruction.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Order;
use super::bench::Bench;
use crate::board::Gate;
use crate::clock::now_ns;
use crate::run::{Rate, Run};
use crate::tally::{Tally, between};

/// How long it takes children to get from the gate to their sleep: for all, and for each.
const LEAD: Duration = Duration::from_millis(200);
const LEAD_EACH: Duration = Duration::from_micros(100);

#[derive(Clone, Debug, PartialEq, Args, Serialize, Deserialize, JsonSchema)]
pub(crate) struct SteadyOptions {
    /// How many children live on, beyond those that exit
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub(crate) live: u32,
    /// Exits a second
    #[arg(long, value_name = "R", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: u32,
    /// For how many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    pub(crate) duration: f64,
    /// How the moments are spread
    #[arg(long, value_enum, default_value_t = Arrivals::Poisson)]
    pub(crate) arrivals: Arrivals,
    /// What the random moments grow from; the same for all contestants
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    pub(crate) seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Arrivals {
    /// As independent events come
    Poisson,
    /// One like the other
    Fixed,
}

impl SteadyOptions {
    pub(super) fn exits(&self) -> u64 {
        (f64::from(self.rate) * self.duration) as u64
    }

    pub(super) fn check(&self) -> Result<()> {
        ensure!(
            self.duration.is_finite() && self.duration <= 86_400.0,
            "--duration {} is no number of seconds up to a day",
            self.duration
        );
        ensure!(
            self.exits() > 0,
            "--rate {} for --duration {} makes not a single exit",
            self.rate,
            self.duration
        );
        Ok(())
    }

    /// The planned moments, from the first on.
    fn plan_ns(&self) -> Vec<u64> {
        let mean = 1e9 / f64::from(self.rate);
        let mut random = fastrand::Rng::with_seed(self.seed);
        let mut at = 0.0;
        (0..self.exits())
            .map(|_| {
                at += match self.arrivals {
                    Arrivals::Fixed => mean,
                    Arrivals::Poisson => -mean * (1.0 - random.f64()).ln(),
                };
                at as u64
            })
            .collect()
    }
}

pub(super) fn measure(order: &Order, options: &SteadyOptions) -> Result<Run> {
    let plan = options.plan_ns();
    let exits = 0..plan.len();
    let live = plan.len()..plan.len() + options.live as usize;
    let tally = Tally::new(live.end, Duration::ZERO)?;
    let crowd = [(exits.clone(), Gate::Exits), (live.clone(), Gate::Live)];
    let mut bench = Bench::new(order, tally, &crowd)?;

    let lead = LEAD + LEAD_EACH * plan.len() as u32;
    let start = now_ns() + lead.as_nanos() as u64;
    for (slot, offset) in bench.tally.board.slots().iter().zip(&plan) {
        slot.due_ns.store(start + offset, Ordering::Release);
    }
    bench.tally.board.open(Gate::Exits);
    // When they have got to sleep.
    let rest = start.saturating_sub(now_ns() + LEAD.as_nanos() as u64 / 2);
    std::thread::sleep(Duration::from_nanos(rest));
    bench.start()?;
    bench
        .tally
        .quiet_until(start + plan.last().copied().unwrap_or(0));
    bench.wait_for(exits.len() as u64);
    bench.stop(&exits)?;

    let slots = &bench.tally.board.slots()[exits.clone()];
    let planned = between(slots, |s| &s.due_ns, |s| &s.known_ns)?;
    let lateness = between(slots, |s| &s.due_ns, |s| &s.stamp_ns)?;
    let stamps = slots
        .iter()
        .map(|slot| slot.stamp_ns.load(Ordering::Acquire));
    let (count, last) = (slots.len() as f64, stamps.max().unwrap_or(0));
    let per_s = |ns: u64| count / (ns.max(1) as f64 / 1e9);
    let rate = Rate {
        planned_per_s: per_s(plan.last().copied().unwrap_or(0)),
        achieved_per_s: per_s(last.saturating_sub(start)),
    };
    let run = bench.run_mut();
    run.drain_ns = 0;
    run.planned_latencies(planned)?;
    run.lateness_ns = Some(lateness.percentiles());
    run.rate = Some(rate);
    bench.finish(live.end as u64, live.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(arrivals: Arrivals) -> SteadyOptions {
        SteadyOptions {
            live: 0,
            rate: 1000,
            duration: 10.0,
            arrivals,
            seed: 7,
        }
    }

    #[test]
    fn moments_come_at_the_rate_asked_for() {
        let fixed = options(Arrivals::Fixed).plan_ns();
        assert_eq!(fixed.len(), 10_000);
        assert_eq!((fixed[0], fixed[9999]), (1_000_000, 10_000_000_000));

        let poisson = options(Arrivals::Poisson).plan_ns();
        assert_eq!(poisson, options(Arrivals::Poisson).plan_ns());
        assert!(poisson.is_sorted());
        let seconds = poisson[9999] as f64 / 1e9;
        assert!((9.5..10.5).contains(&seconds), "{seconds}");
        // The gaps of independent events vary as much as they last.
        let gaps: Vec<_> = poisson
            .windows(2)
            .map(|pair| (pair[1] - pair[0]) as f64)
            .collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        let ratio = variance.sqrt() / mean;
        assert!((0.95..1.05).contains(&ratio), "{ratio}");
    }
}
