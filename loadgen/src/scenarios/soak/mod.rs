//! The soak: a long random mix of what can happen to processes and to their watches. Every exit,
//! status and callback is accounted for.
//!
//! [`measure`] calls the `driver`, which keeps a window of children running. It picks a `case` for
//! each new child, and keeps what it expects as a `job`. It finishes the oldest job before it starts
//! another one: by then everything must have happened to that child, exactly once.
//!
//! In some cases a `child` is a fork of this process (`forks`). In the others it executes a program
//! (`commands`), started by the `draft` of a command with random `attributes` that fit the
//! `surroundings`, or the command must be `refused`. At the end `leftovers` checks that no process,
//! cgroup or descriptor is left.

mod attributes;
mod case;
mod child;
mod commands;
mod draft;
mod driver;
mod forks;
mod job;
mod leftovers;
mod refused;
mod surroundings;

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::Result;

use self::child::block_signals;
use self::driver::Driver;
use self::job::silence_expected_panics;
use crate::measure::clock::cpu_ns;
use crate::measure::interrupt::interrupted;
use crate::measure::process::{anonymous_bytes, open_descriptors};
use crate::measure::progress::progress_bar;
use crate::types::latency::Latencies;
use crate::types::options::SoakOptions;
use crate::types::run::{Run, Soak, SoakLeft, SoakSample};
use crate::types::run_spec::RunSpec;

/// The number of samples of memory and descriptors.
const SAMPLES: u64 = 40;

pub(super) fn measure(spec: &RunSpec, options: &SoakOptions) -> Result<Run> {
    silence_expected_panics();
    block_signals();
    let bar = progress_bar(options.exits, "soaking");
    let descriptors = open_descriptors(None)?;
    let mut driver = Driver::new(spec.workers, options)?;
    let (start, cpu_before) = (Instant::now(), cpu_ns(None)?);
    let mut samples = Vec::new();
    let every = options.exits.div_ceil(SAMPLES).max(1);
    let (mut started, mut tag) = (0, 0);
    while started < options.exits && !interrupted() {
        if driver.running() >= u64::from(options.concurrency) {
            driver.finish_oldest()?;
        }
        tag += 1;
        if !driver.start_one(tag)? {
            continue;
        }
        started += 1;
        bar.set_position(started);
        if started % every == 0 {
            samples.push(SoakSample {
                exits: driver.count.exits,
                bytes: anonymous_bytes(None)?,
                descriptors: open_descriptors(None)?,
            });
        }
    }
    while driver.running() > 0 {
        driver.finish_oldest()?;
    }
    bar.finish_and_clear();

    let seconds = start.elapsed().as_secs_f64();
    let mut run = spec.empty_run();
    run.children = started;
    run.exits = driver.count.exits;
    run.lost = driver.count.lost;
    run.duplicates = driver.count.duplicates;
    if !driver.gave_up {
        run.duplicates += driver.leftovers()?;
    }
    run.cpu_ns_per_exit = (cpu_ns(None)? - cpu_before) / started.max(1);
    run.fds_held = driver.descriptors();
    run.children_per_s = Some(started as f64 / seconds);
    run.interrupted = interrupted();
    // A soak measures no latencies. The result still needs a valid histogram.
    run.set_latencies(Latencies::new()?)?;
    let mut soak = Soak {
        seconds,
        cases: named(&driver.cases),
        attributes: named(&driver.attributes),
        orphans: 0,
        without_cgroups: driver.cgroups().err(),
        left: SoakLeft::default(),
        samples,
    };
    let (cgroups, gave_up) = (driver.cgroups().ok(), driver.gave_up);
    if !gave_up {
        // What a dropped future has started is killed, and its descendants are reaped later.
        soak.left = leftovers::wait_for_none(None, u64::MAX)?;
    }
    soak.orphans = driver.orphans();
    let wrong = driver.end();
    if !gave_up && soak.left.count() == 0 {
        soak.left = leftovers::wait_for_none(cgroups.as_deref(), descriptors)?;
    }
    if soak.left.count() > 0 {
        eprintln!("loadgen: soak: at the end there are left: {:?}", soak.left);
    }
    run.wrong = wrong + soak.left.count();
    run.soak = Some(soak);
    Ok(run)
}

fn named(counts: &BTreeMap<&'static str, u64>) -> BTreeMap<String, u64> {
    let counts = counts.iter();
    counts
        .map(|(name, count)| ((*name).to_owned(), *count))
        .collect()
}
