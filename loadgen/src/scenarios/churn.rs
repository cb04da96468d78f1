//! The churn scenario: the whole cycle of short-lived children, a fixed number at the same time.
//!
//! A cycle is fork, watch, exit, callback, reap.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::bench::Bench;
use crate::measure::interrupt::interrupted;
use crate::measure::recorder::Recorder;
use crate::measure::shared_table::Gate;
use crate::types::options::ChurnOptions;
use crate::types::run::Run;
use crate::types::run_spec::RunSpec;

/// No machine forks more.
const PER_SECOND_MAX: f64 = 100_000.0;

pub(super) fn measure(spec: &RunSpec, options: &ChurnOptions) -> Result<Run> {
    let live = options.live as usize;
    // Slots that are never accessed take no memory.
    let slots = live + (options.duration * PER_SECOND_MAX) as usize;
    let recorder = Recorder::new(slots, Duration::ZERO)?;
    let mut bench = Bench::new(spec, recorder, &[(0..live, Gate::Live)])?;

    bench.start()?;
    let start = Instant::now();
    let mut next = live;
    while start.elapsed().as_secs_f64() < options.duration && next < slots && !interrupted() {
        bench.spawn(next, Gate::None)?;
        next += 1;
        let started = (next - live) as u64;
        let finished = (started + 1).saturating_sub(options.concurrency.into());
        if !bench.recorder.wait_for(finished, |_| ()) {
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
