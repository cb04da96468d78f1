//! The abandon scenario: a large number of watches is dropped while unrelated children exit.
//!
//! All dropped watches are of one child, which stays alive, so they deliver nothing. Measured are
//! the latency of the unrelated exits meanwhile, and the time to shut down the watcher.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;

use super::bench::{Bench, fork};
use crate::measure::clock::now_ns;
use crate::measure::recorder::Recorder;
use crate::measure::shared_table::Gate;
use crate::types::options::AbandonOptions;
use crate::types::run::Run;
use crate::types::run_spec::RunSpec;

const LEAD: Duration = Duration::from_millis(100);
const INTERVAL: Duration = Duration::from_millis(5);

pub(super) fn measure(spec: &RunSpec, options: &AbandonOptions) -> Result<Run> {
    let exits = 0..options.exits as usize;
    let live = exits.end..exits.end + 1;
    let recorder = Recorder::new(live.end, Duration::ZERO)?;
    let parked = fork(&recorder, &[(live.clone(), Gate::Live)])?;
    let mut bench = Bench::new(spec, recorder, &[(exits.clone(), Gate::Exits)])?;
    for pid in &parked {
        bench.contestant.watch(*pid, exits.end)?;
    }
    let abandoned = bench
        .contestant
        .watch_without_callback(parked[0], options.watches as usize)?;
    bench.contestant.wait_until_registered()?;

    let start = now_ns() + LEAD.as_nanos() as u64;
    for (slot, nth) in bench.recorder.table.slots()[exits.clone()].iter().zip(0..) {
        let offset = INTERVAL.as_nanos() as u64 * nth;
        slot.due_ns.store(start + offset, Ordering::Release);
    }
    bench.recorder.table.open(Gate::Exits);
    std::thread::sleep(LEAD);
    bench.start()?;
    drop(abandoned);
    bench.wait_for(exits.len() as u64);
    bench.stop(&exits)?;
    let run = bench.run_mut();
    run.drain_ns = 0;
    // Most CPU time goes to the dropped watches.
    run.cpu_ns_per_exit = 0;
    bench.finish(live.end as u64, live.end)
}
