//! What a spawn costs while children are alive, against none.
//!
//! Measured in turns, none and live, several times, in one process with one watcher. The live children
//! are forked, parked, and owned by the watcher; what is timed is `Watcher::spawn` of `true` and the
//! wait for its exit.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use exitring::{Child, Watcher};
use serde::Serialize;

use crate::children::Children;
use crate::cli::SpawnOptions;
use crate::latency::Percentiles;
use crate::limits;
use crate::process::open_descriptors;
use crate::progress::progress_bar;
use crate::report::{Report, Run, micros};

#[derive(Debug, Serialize)]
pub(crate) struct SpawnRun {
    contestant: String,
    /// Children alive and owned meanwhile.
    live: u32,
    spawns: u64,
    /// Of these, the ones whose exit was wrong.
    wrong: u64,
    /// From the call of spawn to the exit in hand.
    latency_ns: Percentiles,
    /// The call of spawn alone, median.
    spawn_ns_p50: u64,
    /// Descriptors open beyond those open before there was a watcher.
    fds_held: u64,
}

/// Makes the runs, prints them, and saves them.
pub(crate) fn run(options: &SpawnOptions) -> Result<Report<SpawnRun>> {
    limits::check_processes(options.live + 1)?;
    let fds_before = open_descriptors()?;
    let watcher = Watcher::new().context("building the watcher")?;
    let (mut none, mut live) = (Samples::default(), Samples::default());
    let mut fds_live = 0;
    // What is new (pages, caches) is not measured.
    Samples::default().take(&watcher, options.spawns.div_ceil(10))?;
    let bar = progress_bar(2 * u64::from(options.repeat), "spawning");
    for _ in 0..options.repeat {
        none.take(&watcher, options.spawns)?;
        bar.inc(1);
        let children = Children::fork(options.live, || ())?;
        let owned = own_all(&watcher, &children)?;
        fds_live = open_descriptors()?.saturating_sub(fds_before);
        live.take(&watcher, options.spawns)?;
        bar.inc(1);
        children.release();
        for child in &owned {
            child.wait().context("waiting for a live child")?;
        }
    }
    bar.finish_and_clear();

    let fds_none = open_descriptors()?.saturating_sub(fds_before);
    let runs = vec![none.run(0, fds_none)?, live.run(options.live, fds_live)?];
    let ratio = runs[1].latency_ns.p50 as f64 / runs[0].latency_ns.p50 as f64;
    let mut report = Report::new("spawn", runs);
    report.spawn_cost_ratio = Some(ratio);
    report.print();
    if let Some(path) = &options.json {
        report.write_json(path)?;
    }
    Ok(report)
}

fn own_all(watcher: &Watcher, children: &Children) -> Result<Vec<Child>> {
    let owned = children.pids().iter().map(|&pid| watcher.adopt_pid(pid));
    let owned: Vec<_> = owned
        .collect::<Result<_, _>>()
        .context("adopting the live children")?;
    let all = owned.len() as u64;
    let armed = || watcher.stats().armed == all;
    let start = Instant::now();
    while !armed() && start.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(1));
    }
    ensure!(armed(), "not all {all} watches are armed after 10 s");
    Ok(owned)
}

#[derive(Default)]
struct Samples {
    total_ns: Vec<u64>,
    spawn_ns: Vec<u64>,
    wrong: u64,
}

impl Samples {
    fn take(&mut self, watcher: &Watcher, count: u32) -> Result<()> {
        for _ in 0..count {
            let start = Instant::now();
            let child = watcher.spawn(&mut Command::new("true"))?;
            let spawned = start.elapsed();
            let exit = child.wait()?;
            self.total_ns.push(start.elapsed().as_nanos() as u64);
            self.spawn_ns.push(spawned.as_nanos() as u64);
            self.wrong += u64::from(!exit.success());
        }
        Ok(())
    }

    fn run(self, live: u32, fds_held: u64) -> Result<SpawnRun> {
        Ok(SpawnRun {
            contestant: format!("exitring, {live} live"),
            live,
            spawns: self.total_ns.len() as u64,
            wrong: self.wrong,
            latency_ns: Percentiles::of(self.total_ns)?,
            spawn_ns_p50: Percentiles::of(self.spawn_ns)?.p50,
            fds_held,
        })
    }
}

impl Run for SpawnRun {
    fn contestant(&self) -> &str {
        &self.contestant
    }

    fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = vec![
            ("spawns", self.spawns.to_string()),
            ("wrong status", self.wrong.to_string()),
        ];
        rows.extend(self.latency_ns.rows());
        rows.extend([
            ("the call of spawn, p50", micros(self.spawn_ns_p50)),
            ("descriptors held", self.fds_held.to_string()),
        ]);
        rows
    }

    fn is_clean(&self) -> bool {
        self.wrong == 0
    }
}
