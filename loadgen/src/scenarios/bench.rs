//! A contestant at work: its children are made, it watches them, and what it does is measured.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::Order;
use crate::board::{Gate, Slot};
use crate::children;
use crate::clock::{cpu_ns, now_ns, thread_cpu_ns};
use crate::contestants::{self, Contestant};
use crate::interrupt::interrupted;
use crate::process::{anonymous_bytes, open_descriptors, raise_descriptor_limit};
use crate::progress::progress_bar;
use crate::run::{Run, Stage};
use crate::start::Start;
use crate::tally::{Tally, between};

/// How long the next child may take to come to its gate.
const PARKING: Duration = Duration::from_secs(30);

/// How long the last exits of what is interrupted may be on their way.
const LAST_CHANCE: Duration = Duration::from_millis(500);

pub(crate) struct Bench<'a> {
    order: &'a Order,
    pub(crate) tally: Arc<Tally>,
    pub(crate) contestant: Box<dyn Contestant>,
    /// What was there before there was a contestant.
    fds_before: u64,
    bytes_before: u64,
    run: Run,
    cpu_before: u64,
    enters_before: u64,
    pub(crate) started_ns: u64,
}

impl<'a> Bench<'a> {
    /// Makes the contestant and its first children: slots, and the gates they wait at.
    pub(crate) fn new(
        order: &'a Order,
        tally: Arc<Tally>,
        crowd: &[(Range<usize>, Gate)],
    ) -> Result<Self> {
        if order.kind.descriptors_per_child() > 0 {
            raise_descriptor_limit()?;
        }
        // Where that is possible, they are forked before there are threads and descriptors to inherit.
        let forked = match order.kind.takes_pids() {
            true => fork(&tally, crowd)?,
            false => Vec::new(),
        };
        let before = (open_descriptors(None)?, anonymous_bytes(None)?);
        let contestant = contestants::make(order, &tally)?;
        // Another program is not asked before it is there, and all it has is its own.
        let process = contestant.process();
        let (fds_before, bytes_before) = match process {
            Some(_) => (3, anonymous_bytes(process)?),
            None => before,
        };
        let mut bench = Self {
            order,
            tally,
            contestant,
            fds_before,
            bytes_before,
            run: order.run(),
            cpu_before: 0,
            enters_before: 0,
            started_ns: 0,
        };
        bench.watch(crowd, forked)?;
        let watched: u64 = crowd.iter().map(|(slots, _)| slots.len() as u64).sum();
        bench.run.fds_held = bench.fds_held()?;
        let bytes = anonymous_bytes(process)?.saturating_sub(bench.bytes_before);
        bench.run.bytes_per_watch = bytes.checked_div(watched);
        Ok(bench)
    }

    /// One more that the contestant starts itself.
    pub(crate) fn spawn(&mut self, index: usize, gate: Gate) -> Result<()> {
        let board = Arc::clone(&self.tally.board);
        self.contestant.spawn(&Start::Child { board, index, gate })
    }

    pub(crate) fn fds_held(&self) -> Result<u64> {
        let process = self.contestant.process();
        Ok(open_descriptors(process)?.saturating_sub(self.fds_before))
    }

    /// More children.
    pub(crate) fn add(&mut self, crowd: &[(Range<usize>, Gate)]) -> Result<()> {
        let forked = match self.order.kind.takes_pids() {
            true => fork(&self.tally, crowd)?,
            false => Vec::new(),
        };
        self.watch(crowd, forked)
    }

    fn watch(&mut self, crowd: &[(Range<usize>, Gate)], forked: Vec<exitring::Pid>) -> Result<()> {
        let parked_before = self.tally.board.parked();
        let mut forked = forked.into_iter();
        let all: usize = crowd.iter().map(|(slots, _)| slots.len()).sum();
        let bar = progress_bar(all as u64, "watching");
        for (slots, gate) in crowd {
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
        self.contestant.settle()?;
        if !self.order.kind.takes_pids() {
            wait_until_parked(&self.tally, parked_before, all as u64)?;
        }
        Ok(())
    }

    /// From here on it is measured.
    pub(crate) fn start(&mut self) -> Result<()> {
        self.enters_before = self.contestant.stats().map_or(0, |stats| stats.enters);
        self.cpu_before = cpu_ns(self.contestant.process())?;
        self.started_ns = now_ns();
        Ok(())
    }

    /// Lets children go. What that takes is not the contestant's.
    pub(crate) fn release(&mut self, gate: Gate) {
        let before = thread_cpu_ns();
        self.tally.board.open(gate);
        if self.contestant.process().is_none() {
            self.cpu_before += thread_cpu_ns() - before;
        }
    }

    /// Waits until so many exits are delivered in all, or no more come.
    pub(crate) fn wait_for(&self, exits: u64) {
        let bar = progress_bar(exits, "exiting");
        self.tally.wait_for(exits, |done| bar.set_position(done));
        bar.finish_and_clear();
    }

    /// To here it is measured; what was measured are the exits of these slots.
    pub(crate) fn stop(&mut self, slots: &Range<usize>) -> Result<()> {
        let cpu = cpu_ns(self.contestant.process())? - self.cpu_before;
        let stats = self.contestant.stats();
        let slots = &self.tally.board.slots()[slots.clone()];
        let exits = self.tally.count(slots, u64::MAX).exits;
        let run = &mut self.run;
        run.children = slots.len() as u64;
        run.exits = exits;
        run.cpu_ns_per_exit = cpu / exits.max(1);
        run.drain_ns = self.tally.last_ns().saturating_sub(self.started_ns);
        run.latencies(between(slots, |s| &s.stamp_ns, |s| &s.known_ns)?)?;
        run.stages = stages(slots)?;
        if let Some(stats) = stats {
            let enters = stats.enters - self.enters_before;
            run.enters_per_exit = Some(enters as f64 / exits.max(1) as f64);
            run.stalls = Some(stats.stalls);
        }
        Ok(())
    }

    /// Lets the others go, too, until so many exits are delivered in all, and says what came of the children
    /// of the first `used` slots.
    pub(crate) fn finish(mut self, exits: u64, used: usize) -> Result<Run> {
        self.run.interrupted = interrupted();
        let mut until_ns = u64::MAX;
        if self.run.interrupted {
            // Children go on ending. Those that have until now get their chance; of the others nothing is said.
            until_ns = now_ns();
            std::thread::sleep(LAST_CHANCE);
        } else {
            self.tally.board.open(Gate::Live);
            self.wait_for(exits);
            if interrupted() {
                self.run.interrupted = true;
                until_ns = now_ns();
                std::thread::sleep(LAST_CHANCE);
            }
        }
        // Not a slot more: reading one takes memory.
        let count = self
            .tally
            .count(&self.tally.board.slots()[..used], until_ns);
        self.run.lost = count.lost;
        self.run.duplicates = count.duplicates;
        self.run.wrong = self.tally.wrong();
        let before = Instant::now();
        drop(self.contestant);
        self.run.end_ns = before.elapsed().as_nanos() as u64;
        Ok(self.run)
    }

    pub(crate) fn run_mut(&mut self) -> &mut Run {
        &mut self.run
    }
}

/// Forks children, which then wait at their gates.
pub(crate) fn fork(tally: &Tally, crowd: &[(Range<usize>, Gate)]) -> Result<Vec<exitring::Pid>> {
    let parked_before = tally.board.parked();
    let all: usize = crowd.iter().map(|(slots, _)| slots.len()).sum();
    let mut forked = Vec::with_capacity(all);
    let bar = progress_bar(all as u64, "forking");
    for (slots, gate) in crowd {
        for index in slots.clone() {
            bail_if_interrupted()?;
            forked.push(children::fork(&tally.board, index, *gate)?);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    wait_until_parked(tally, parked_before, all as u64)?;
    Ok(forked)
}

/// What is measured is to begin at rest.
fn wait_until_parked(tally: &Tally, before: u64, children: u64) -> Result<()> {
    let (mut last, mut moved) = (0, Instant::now());
    while tally.board.parked() < before + children {
        bail_if_interrupted()?;
        let parked = tally.board.parked() - before;
        if parked > last {
            (last, moved) = (parked, Instant::now());
        }
        if moved.elapsed() > PARKING {
            bail!("only {parked} of {children} children are ready, and no more within {PARKING:?}");
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

/// The way of an exit through a watcher that tells when it saw and queued it.
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
    // Without a queue the way is shorter.
    if stages.len() == 1 {
        let latencies = between(slots, |s| &s.seen_ns, |s| &s.begun_ns)?;
        stages.push(Stage {
            stage: "seen to callback".into(),
            latency_ns: latencies.percentiles(),
        });
    }
    Ok(stages)
}
