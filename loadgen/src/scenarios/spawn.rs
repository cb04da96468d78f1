//! The spawn scenario: the cost of a spawn with many live children, and with none.
//!
//! Both are measured in turns, several times, in one process with one contestant. Timed is the
//! spawn of `true`, from the call to the known status. With `--resident` the process has memory
//! whose page tables a fork copies.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;

use super::bench::Bench;
use crate::measure::clock::now_ns;
use crate::measure::interrupt::interrupted;
use crate::measure::program::Program;
use crate::measure::recorder::Recorder;
use crate::measure::resident::Resident;
use crate::measure::shared_table::Gate;
use crate::types::latency::Latencies;
use crate::types::options::SpawnOptions;
use crate::types::run::{Run, SpawnCost};
use crate::types::run_spec::RunSpec;

pub(super) fn measure(spec: &RunSpec, options: &SpawnOptions) -> Result<Run> {
    let (live, spawns) = (options.live as usize, options.spawns as usize);
    let warm_up = spawns.div_ceil(10);
    // The slots of spawned children come first, then those of live children.
    let spawned = warm_up + 2 * spawns * options.turns as usize;
    let slots = spawned + live * options.turns as usize;
    let program = Program::that_exits(Some(Path::new("true")))?;
    let resident = options.resident.map(Resident::allocate).transpose()?;
    let mut bench = Bench::new(spec, Recorder::new(slots, Duration::ZERO)?, &[])?;
    bench.note_program(&program);

    let mut timer = Timer {
        program,
        next: 0,
        done: 0,
        stopped: false,
    };
    // The first spawns (page faults, cold caches) are not measured.
    timer.spawn(&mut bench, warm_up, &mut Samples::new()?)?;
    let (mut none, mut with_live) = (Samples::new()?, Samples::new()?);
    let mut fds_live = 0;
    let mut next_live = spawned;
    for _ in 0..options.turns {
        timer.spawn(&mut bench, spawns, &mut none)?;
        // The live children are forks, and would copy the page tables some thousand times.
        if let Some(resident) = &resident {
            resident.set_inherited(false)?;
        }
        bench.add(&[(next_live..next_live + live, Gate::Live)])?;
        if let Some(resident) = &resident {
            resident.set_inherited(true)?;
        }
        next_live += live;
        fds_live = bench.fds_held()?;
        bench.start()?;
        timer.spawn(&mut bench, spawns, &mut with_live)?;
        bench.stop(&(timer.next.saturating_sub(spawns)..timer.next))?;
        if timer.stopped {
            break;
        }
        // At the end of a turn all live children exit. The next turn makes new ones, at a gate that
        // is closed again.
        bench.recorder.table.open(Gate::Live);
        timer.done += live as u64;
        bench.wait_for(timer.done);
        bench.recorder.table.close(Gate::Live);
    }
    let count = bench
        .recorder
        .count(&bench.recorder.table.slots()[warm_up..spawned], u64::MAX);
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
    run.exits = count.exits;
    run.fds_held = fds_live;
    run.drain_ns = 0;
    run.stages.clear();
    run.set_latencies(latencies)?;
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

struct Timer {
    program: Arc<Program>,
    next: usize,
    /// The number of exits that were delivered so far.
    done: u64,
    /// After an interrupt or a lost exit nothing more is spawned.
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
                bench.recorder.table.slots()[index]
                    .known_ns
                    .load(Ordering::Acquire)
            };
            let before = now_ns();
            bench.spawn_program(index, &self.program)?;
            let returned = now_ns();
            bench.contestant.wait_in_caller();
            if bench.contestant.starts_in_the_call() {
                samples.call.record(returned - before)?;
            }
            self.next += 1;
            self.done += 1;
            let delivered = bench.recorder.wait_for(self.done, |_| ());
            if !delivered || interrupted() {
                self.stopped = true;
                return Ok(());
            }
            samples.total.record(slot(bench).saturating_sub(before))?;
        }
        Ok(())
    }
}
