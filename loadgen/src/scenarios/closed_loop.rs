//! A load of short-lived children, a fixed number at the same time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::bench::Bench;
use crate::measure::interrupt::interrupted;
use crate::measure::recorder::{Recorder, between};
use crate::types::run::Run;

/// No machine starts more.
const PER_SECOND_MAX: f64 = 100_000.0;

/// The number of children, and how long the load lasts.
pub(super) struct ClosedLoop {
    /// The first slot of the load. The slots before are those of other children.
    pub(super) first: usize,
    pub(super) concurrency: u32,
    /// In seconds.
    pub(super) duration: f64,
}

impl ClosedLoop {
    /// The slots that the load can use at most, at least one. Slots that are never accessed take no
    /// memory.
    fn end(&self) -> usize {
        self.first + ((self.duration * PER_SECOND_MAX) as usize).max(1)
    }

    pub(super) fn recorder(&self) -> Result<Arc<Recorder>> {
        Recorder::new(self.end(), Duration::ZERO)
    }

    /// Starts children with `start_one`, which gets the slot of the child. Each further child starts
    /// when the exit of another was delivered. Measures until the last exit.
    pub(super) fn measure(
        &self,
        mut bench: Bench<'_>,
        mut start_one: impl FnMut(&mut Bench<'_>, usize) -> Result<()>,
    ) -> Result<Run> {
        bench.start()?;
        let start = Instant::now();
        let mut next = self.first;
        let goes_on = |next| {
            let in_time = start.elapsed().as_secs_f64() < self.duration;
            // A slow machine has one child at least.
            (in_time || next == self.first) && next < self.end() && !interrupted()
        };
        while goes_on(next) {
            start_one(&mut bench, next)?;
            next += 1;
            let started = (next - self.first) as u64;
            let finished = (started + 1).saturating_sub(self.concurrency.into());
            if !bench.recorder.wait_for(finished, |_| ()) {
                break;
            }
        }
        bench.wait_for((next - self.first) as u64);
        let used = self.first..next;
        bench.stop(&used)?;
        let slots = &bench.recorder.table.slots()[used];
        let from_call = between(slots, |s| &s.called_ns, |s| &s.known_ns)?;
        let run = bench.run_mut();
        let seconds = run.drain_ns as f64 / 1e9;
        run.children_per_s = Some(run.exits as f64 / seconds);
        run.drain_ns = 0;
        if !from_call.histogram().is_empty() {
            run.set_latencies(from_call)?;
        }
        bench.finish(next as u64, next)
    }
}
