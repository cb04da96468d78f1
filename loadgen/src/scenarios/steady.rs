//! The steady scenario: exits at planned times while other children stay alive.
//!
//! The load is an open loop: each child sleeps until its own planned time, whatever the watcher
//! does. So a slow watcher does not slow down the load (no coordinated omission), and no pacing
//! thread takes CPU time. Latency is measured from the planned time, and from the child's last
//! instruction.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;

use super::bench::Bench;
use crate::measure::clock::now_ns;
use crate::measure::recorder::{Recorder, between};
use crate::measure::shared_table::Gate;
use crate::types::options::{Arrivals, SteadyOptions};
use crate::types::run::{Rate, Run};
use crate::types::run_spec::RunSpec;

/// The time that children need from the gate to their sleep: a constant, and a part per child.
const LEAD: Duration = Duration::from_millis(200);
const LEAD_PER_CHILD: Duration = Duration::from_micros(100);

/// The planned times, as offsets from the start.
fn planned_offsets_ns(options: &SteadyOptions) -> Vec<u64> {
    let mean = 1e9 / f64::from(options.rate);
    let mut random = fastrand::Rng::with_seed(options.seed);
    let mut at = 0.0;
    (0..options.exits())
        .map(|_| {
            at += match options.arrivals {
                Arrivals::Fixed => mean,
                Arrivals::Poisson => -mean * (1.0 - random.f64()).ln(),
            };
            at as u64
        })
        .collect()
}

pub(super) fn measure(spec: &RunSpec, options: &SteadyOptions) -> Result<Run> {
    let plan = planned_offsets_ns(options);
    let exits = 0..plan.len();
    let live = plan.len()..plan.len() + options.live as usize;
    let recorder = Recorder::new(live.end, Duration::ZERO)?;
    let groups = [(exits.clone(), Gate::Exits), (live.clone(), Gate::Live)];
    let mut bench = Bench::new(spec, recorder, &groups)?;

    let lead = LEAD + LEAD_PER_CHILD * plan.len() as u32;
    let start = now_ns() + lead.as_nanos() as u64;
    for (slot, offset) in bench.recorder.table.slots().iter().zip(&plan) {
        slot.due_ns.store(start + offset, Ordering::Release);
    }
    bench.recorder.table.open(Gate::Exits);
    // By then all children sleep.
    let pause = start.saturating_sub(now_ns() + LEAD.as_nanos() as u64 / 2);
    std::thread::sleep(Duration::from_nanos(pause));
    bench.start()?;
    bench
        .recorder
        .quiet_until(start + plan.last().copied().unwrap_or(0));
    bench.wait_for(exits.len() as u64);
    bench.stop(&exits)?;

    let slots = &bench.recorder.table.slots()[exits.clone()];
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
    run.set_latencies_from_plan(planned)?;
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
    fn planned_times_have_the_requested_rate() {
        let fixed = planned_offsets_ns(&options(Arrivals::Fixed));
        assert_eq!(fixed.len(), 10_000);
        assert_eq!((fixed[0], fixed[9999]), (1_000_000, 10_000_000_000));

        let poisson = planned_offsets_ns(&options(Arrivals::Poisson));
        assert_eq!(poisson, planned_offsets_ns(&options(Arrivals::Poisson)));
        assert!(poisson.is_sorted());
        let seconds = poisson[9999] as f64 / 1e9;
        assert!((9.5..10.5).contains(&seconds), "{seconds}");
        // The standard deviation of exponential intervals equals their mean.
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
