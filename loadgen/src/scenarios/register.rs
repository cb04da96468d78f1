//! The register scenario: the duration of each registration while callbacks are slow.
//!
//! Callbacks sleep, and children exit as fast as one thread can run their callbacks. Meanwhile
//! other children, which wait at a gate, are registered at a constant rate. A registration that waits
//! for its turn because earlier ones took longer than their interval counts from its planned time (no
//! coordinated omission). The time in which the registering thread wakes up does not count.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::bench::{Bench, fork};
use crate::measure::clock::now_ns;
use crate::measure::interrupt::interrupted;
use crate::measure::recorder::Recorder;
use crate::measure::shared_table::Gate;
use crate::types::latency::Latencies;
use crate::types::options::RegisterOptions;
use crate::types::run::Run;
use crate::types::run_spec::RunSpec;

const LEAD: Duration = Duration::from_millis(100);

pub(super) fn measure(spec: &RunSpec, options: &RegisterOptions) -> Result<Run> {
    let exits = 0..options.exits() as usize;
    let registered = exits.end..exits.end + options.registrations() as usize;
    let recorder = Recorder::new(registered.end, options.sleep())?;
    // These are forked first as well, because only the registration is timed.
    let parked = fork(&recorder, &[(registered.clone(), Gate::Live)])?;
    let mut bench = Bench::new(spec, recorder, &[(exits.clone(), Gate::Exits)])?;

    let start = now_ns() + LEAD.as_nanos() as u64;
    for (slot, nth) in bench.recorder.table.slots()[exits.clone()].iter().zip(0..) {
        let offset = options.sleep().as_nanos() as u64 * nth;
        slot.due_ns.store(start + offset, Ordering::Release);
    }
    bench.recorder.table.open(Gate::Exits);
    std::thread::sleep(LEAD);
    bench.start()?;
    let every_ns = 1_000_000_000 / u64::from(options.rate);
    let mut backlog = Backlog { every_ns, ns: 0 };
    let mut latencies = Latencies::new()?;
    for (nth, (index, pid)) in (0..).zip(registered.clone().zip(parked)) {
        let due = start + every_ns * nth;
        std::thread::sleep(Duration::from_nanos(due.saturating_sub(now_ns())));
        let before = Instant::now();
        bench.contestant.watch(pid, index)?;
        latencies.record(backlog.latency(before.elapsed().as_nanos() as u64))?;
        if interrupted() {
            break;
        }
    }
    bench.wait_for(exits.len() as u64);
    bench.stop(&exits)?;
    bench.recorder.stop_callback_sleep();
    let run = bench.run_mut();
    run.drain_ns = 0;
    // Most CPU time and switches go to the registrations.
    run.cpu_ns_per_exit = 0;
    run.switches_per_exit = None;
    run.set_watch_latencies(latencies)?;
    bench.finish(registered.end as u64, registered.end)
}

/// How far the registrations are behind their planned times, because earlier ones took longer than
/// their interval.
struct Backlog {
    every_ns: u64,
    ns: u64,
}

impl Backlog {
    /// The latency from its planned time of a registration with this duration.
    fn latency(&mut self, duration_ns: u64) -> u64 {
        let latency_ns = self.ns + duration_ns;
        self.ns = latency_ns.saturating_sub(self.every_ns);
        latency_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registrations_wait_for_one_that_takes_longer_than_the_interval() {
        let mut backlog = Backlog {
            every_ns: 10,
            ns: 0,
        };
        let durations = [1, 9, 10, 35, 2, 2, 2, 2, 2];
        let latencies = durations.map(|ns| backlog.latency(ns));
        assert_eq!(latencies, [1, 9, 10, 35, 27, 19, 11, 3, 2]);
    }
}
