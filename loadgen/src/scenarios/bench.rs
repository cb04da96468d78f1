//! The test bench of the scenarios: makes children, lets a contestant watch them, and measures it.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::contestants::{self, Contestant};
use crate::measure::children;
use crate::measure::clock::{cpu_ns, now_ns, thread_cpu_ns};
use crate::measure::interrupt::interrupted;
use crate::measure::process::{
    anonymous_bytes, context_switches, open_descriptors, raise_descriptor_limit,
};
use crate::measure::program::Program;
use crate::measure::progress::progress_bar;
use crate::measure::recorder::{Recorder, between};
use crate::measure::shared_table::{Gate, Slot};
use crate::measure::spawn_request::SpawnRequest;
use crate::types::run::{Run, Stage};
use crate::types::run_spec::RunSpec;
use crate::types::warning::Warning;

/// The time within which another child must reach its gate.
const PARK_TIMEOUT: Duration = Duration::from_secs(30);

/// The time in which the last exits of an interrupted run can still be delivered.
const GRACE_PERIOD: Duration = Duration::from_millis(500);

pub(crate) struct Bench<'a> {
    spec: &'a RunSpec,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) contestant: Box<dyn Contestant>,
    /// In use before the contestant was made.
    fds_before: u64,
    bytes_before: u64,
    run: Run,
    cpu_before: u64,
    switches_before: u64,
    enters_before: u64,
    pub(crate) started_ns: u64,
}

impl<'a> Bench<'a> {
    /// Makes the contestant and its first children. A group is a range of slots and the gate at
    /// which their children wait.
    pub(crate) fn new(
        spec: &'a RunSpec,
        recorder: Arc<Recorder>,
        groups: &[(Range<usize>, Gate)],
    ) -> Result<Self> {
        if spec.descriptors_per_child() > 0 {
            raise_descriptor_limit()?;
        }
        // If possible, children are forked before there are threads and descriptors to inherit.
        let forked = match spec.kind.takes_pids() {
            true => fork(&recorder, groups)?,
            false => Vec::new(),
        };
        let before = (open_descriptors(None)?, anonymous_bytes(None)?);
        let contestant = contestants::make(spec, &recorder)?;
        // A contestant that is another program exists only now. It starts with three descriptors.
        let process = contestant.process();
        let (fds_before, bytes_before) = match process {
            Some(_) => (3, anonymous_bytes(process)?),
            None => before,
        };
        let mut bench = Self {
            spec,
            recorder,
            contestant,
            fds_before,
            bytes_before,
            run: spec.empty_run(),
            cpu_before: 0,
            switches_before: 0,
            enters_before: 0,
            started_ns: 0,
        };
        bench.watch(groups, forked)?;
        let watched: u64 = groups.iter().map(|(slots, _)| slots.len() as u64).sum();
        bench.run.fds_held = bench.fds_held()?;
        let bytes = anonymous_bytes(process)?.saturating_sub(bench.bytes_before);
        bench.run.bytes_per_watch = bytes.checked_div(watched);
        Ok(bench)
    }

    /// Lets the contestant start a child itself.
    pub(crate) fn spawn(&mut self, index: usize, gate: Gate) -> Result<()> {
        let table = Arc::clone(&self.recorder.table);
        let request = SpawnRequest::Child { table, index, gate };
        self.contestant.spawn(&request).map(drop)
    }

    /// Lets the contestant start a child that executes a program.
    pub(crate) fn spawn_program(&mut self, index: usize, program: &Arc<Program>) -> Result<()> {
        self.prepare_exec(index, program);
        let program = Arc::clone(program);
        let pid = self
            .contestant
            .spawn(&SpawnRequest::Program { index, program })?;
        self.note_spawned(index, pid);
        Ok(())
    }

    /// Lets the contestant start a child that executes a program, and read its output.
    pub(crate) fn capture(&mut self, index: usize, program: &Arc<Program>) -> Result<()> {
        self.prepare_exec(index, program);
        let pid = self.contestant.capture(index, program)?;
        self.note_spawned(index, pid);
        Ok(())
    }

    fn note_spawned(&self, index: usize, pid: Option<exitring::Pid>) {
        if let Some(pid) = pid {
            self.recorder.spawned(index, pid);
        }
    }

    fn prepare_exec(&self, index: usize, program: &Program) {
        self.recorder.table.slots()[index].prepare_exec(program.code(index), now_ns());
    }

    /// Records in the result which program the children execute.
    pub(crate) fn note_program(&mut self, program: &Program) {
        self.run.program = Some(program.name().to_owned());
        if program.stands_in() {
            let program = program.name().to_owned();
            self.run.warnings.push(Warning::NoTinyProgram { program });
        }
    }

    pub(crate) fn fds_held(&self) -> Result<u64> {
        let process = self.contestant.process();
        Ok(open_descriptors(process)?.saturating_sub(self.fds_before))
    }

    /// Makes and watches more children.
    pub(crate) fn add(&mut self, groups: &[(Range<usize>, Gate)]) -> Result<()> {
        let forked = match self.spec.kind.takes_pids() {
            true => fork(&self.recorder, groups)?,
            false => Vec::new(),
        };
        self.watch(groups, forked)
    }

    fn watch(&mut self, groups: &[(Range<usize>, Gate)], forked: Vec<exitring::Pid>) -> Result<()> {
        let parked_before = self.recorder.table.parked();
        let mut forked = forked.into_iter();
        let all: usize = groups.iter().map(|(slots, _)| slots.len()).sum();
        let bar = progress_bar(all as u64, "watching");
        for (slots, gate) in groups {
            for index in slots.clone() {
                bail_if_interrupted()?;
                match forked.next() {
                    Some(pid) => self.contestant.watch(pid, index)?,
                    None => self.spawn(index, *gate)?,
                }
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
        self.contestant.wait_until_registered()?;
        if !self.spec.kind.takes_pids() {
            wait_until_parked(&self.recorder, parked_before, all as u64)?;
        }
        Ok(())
    }

    /// Starts the measurement.
    pub(crate) fn start(&mut self) -> Result<()> {
        self.enters_before = self.contestant.stats().map_or(0, |stats| stats.enters);
        self.switches_before = context_switches(self.contestant.process())?;
        self.cpu_before = cpu_ns(self.contestant.process())?;
        self.started_ns = now_ns();
        Ok(())
    }

    /// Opens a gate. The CPU time of this call does not count.
    pub(crate) fn release(&mut self, gate: Gate) {
        let before = thread_cpu_ns();
        self.recorder.table.open(gate);
        if self.contestant.process().is_none() {
            self.cpu_before += thread_cpu_ns() - before;
        }
    }

    /// Waits until `exits` exits are delivered in all, or no more are delivered.
    pub(crate) fn wait_for(&self, exits: u64) {
        let bar = progress_bar(exits, "exiting");
        self.recorder.wait_for(exits, |done| bar.set_position(done));
        bar.finish_and_clear();
    }

    /// Ends the measurement of the exits of these slots.
    pub(crate) fn stop(&mut self, slots: &Range<usize>) -> Result<()> {
        let cpu = cpu_ns(self.contestant.process())? - self.cpu_before;
        let switches = context_switches(self.contestant.process())?;
        // The switches of another program's threads that have ended are not known.
        let switches = switches.saturating_sub(self.switches_before);
        let stats = self.contestant.stats();
        let slots = &self.recorder.table.slots()[slots.clone()];
        let exits = self.recorder.count(slots, u64::MAX).exits;
        let run = &mut self.run;
        run.children = slots.len() as u64;
        run.exits = exits;
        run.cpu_ns_per_exit = cpu / exits.max(1);
        run.switches_per_exit = Some(switches as f64 / exits.max(1) as f64);
        run.drain_ns = self.recorder.last_ns().saturating_sub(self.started_ns);
        run.set_latencies(between(slots, |s| &s.stamp_ns, |s| &s.known_ns)?)?;
        run.stages = stages(slots)?;
        if let Some(stats) = stats {
            let enters = stats.enters - self.enters_before;
            run.enters_per_exit = Some(enters as f64 / exits.max(1) as f64);
            run.stalls = Some(stats.stalls);
        }
        Ok(())
    }

    /// Lets the live children exit as well, waits until `exits` exits are delivered in all, and
    /// checks the children of the first `used` slots. Returns the result of the run.
    pub(crate) fn finish(mut self, exits: u64, used: usize) -> Result<Run> {
        self.run.interrupted = interrupted();
        let mut until_ns = u64::MAX;
        if self.run.interrupted {
            // Children still exit. Exits until now get time to be delivered; later ones do not
            // count.
            until_ns = now_ns();
            std::thread::sleep(GRACE_PERIOD);
        } else {
            self.recorder.table.open(Gate::Live);
            self.wait_for(exits);
            if interrupted() {
                self.run.interrupted = true;
                until_ns = now_ns();
                std::thread::sleep(GRACE_PERIOD);
            }
        }
        // Unused slots are not read, because a read allocates their memory.
        let recorder = self.recorder;
        let count = || recorder.count(&recorder.table.slots()[..used], until_ns);
        self.run.lost = count().lost;
        let shuts_down = self.contestant.shuts_down();
        let before = Instant::now();
        drop(self.contestant);
        if shuts_down {
            self.run.end_ns = before.elapsed().as_nanos() as u64;
        }
        // With those that were delivered in the drop.
        self.run.duplicates = count().duplicates;
        self.run.wrong = recorder.wrong();
        Ok(self.run)
    }

    pub(crate) fn run_mut(&mut self) -> &mut Run {
        &mut self.run
    }
}

/// Forks children and waits until all are at their gates.
pub(crate) fn fork(
    recorder: &Recorder,
    groups: &[(Range<usize>, Gate)],
) -> Result<Vec<exitring::Pid>> {
    let parked_before = recorder.table.parked();
    let all: usize = groups.iter().map(|(slots, _)| slots.len()).sum();
    let mut forked = Vec::with_capacity(all);
    let bar = progress_bar(all as u64, "forking");
    for (slots, gate) in groups {
        for index in slots.clone() {
            bail_if_interrupted()?;
            forked.push(children::fork(&recorder.table, index, *gate)?);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    wait_until_parked(recorder, parked_before, all as u64)?;
    Ok(forked)
}

/// Waits until the children are at their gates, so that the measurement starts without other load.
fn wait_until_parked(recorder: &Recorder, before: u64, children: u64) -> Result<()> {
    let (mut last, mut progressed) = (0, Instant::now());
    while recorder.table.parked() < before + children {
        bail_if_interrupted()?;
        let parked = recorder.table.parked() - before;
        if parked > last {
            (last, progressed) = (parked, Instant::now());
        }
        if progressed.elapsed() > PARK_TIMEOUT {
            bail!(
                "only {parked} of {children} children are ready, and no other became ready within {PARK_TIMEOUT:?}"
            );
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn bail_if_interrupted() -> Result<()> {
    match interrupted() {
        true => bail!("interrupted"),
        false => Ok(()),
    }
}

/// The stages of an exit in a watcher that reports when it saw and queued the exit.
fn stages(slots: &[Slot]) -> Result<Vec<Stage>> {
    let steps = [
        (
            "exit to seen",
            between(slots, |s| &s.stamp_ns, |s| &s.seen_ns)?,
        ),
        (
            "seen to queued",
            between(slots, |s| &s.seen_ns, |s| &s.queued_ns)?,
        ),
        (
            "queued to callback",
            between(slots, |s| &s.queued_ns, |s| &s.begun_ns)?,
        ),
    ];
    let mut stages: Vec<_> = steps
        .into_iter()
        .map(|(stage, latencies)| (stage, latencies.percentiles()))
        .filter(|(_, latency_ns)| latency_ns.samples > 0)
        .map(|(stage, latency_ns)| Stage {
            stage: stage.into(),
            latency_ns,
        })
        .collect();
    // Without a queue there are only two stages.
    if stages.len() == 1 {
        let latencies = between(slots, |s| &s.seen_ns, |s| &s.begun_ns)?;
        stages.push(Stage {
            stage: "seen to callback".into(),
            latency_ns: latencies.percentiles(),
        });
    }
    Ok(stages)
}
