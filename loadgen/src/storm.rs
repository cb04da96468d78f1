//! The storm: all children exit at once.

use std::fs;
use std::sync::Arc;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use rustix::time::{ClockId, clock_gettime};

use crate::children::{Children, now_ns};
use crate::cli::StormOptions;
use crate::contestants;
use crate::latency::Percentiles;
use crate::limits;
use crate::report::{Report, Run};
use crate::tally::Tally;

/// Makes the run, prints it, and saves it.
pub(crate) fn run(options: &StormOptions) -> Result<Report> {
    limits::check_processes(options.children)?;
    let report = Report::new("storm", vec![storm(options)?]);
    report.print();
    if let Some(path) = &options.json {
        report.write_json(path)?;
    }
    Ok(report)
}

fn storm(options: &StormOptions) -> Result<Run> {
    // Forked before there are threads: nobody can hold a lock in the children.
    let bar = progress_bar(options.children, "forking");
    let children = Children::fork(options.children, || bar.inc(1))?;
    bar.finish_and_clear();
    let tally = Arc::new(Tally::new(children));

    let fds_before = open_descriptors()?;
    let mut contestant = contestants::make(options)?;
    contestant.watch_all(&tally)?;
    let fds_held = open_descriptors()?.saturating_sub(fds_before);

    let bar = progress_bar(options.children, "exiting");
    let cpu_before = cpu_ns();
    let released = now_ns();
    tally.children.release();
    tally.wait(|done| bar.set_position(done));
    let cpu = cpu_ns() - cpu_before;
    bar.finish_and_clear();

    let name = contestant.name();
    drop(contestant);
    let exits = tally.exits();
    Ok(Run {
        contestant: name,
        children: options.children,
        exits,
        lost: tally.lost(),
        duplicates: tally.duplicates(),
        wrong: tally.wrong(),
        latency_ns: Percentiles::of(tally.latencies_ns())?,
        drain_ns: tally.last_ns().saturating_sub(released),
        cpu_ns_per_exit: cpu / exits.max(1),
        fds_held,
    })
}

fn open_descriptors() -> Result<u64> {
    let open = fs::read_dir("/proc/self/fd").context("reading /proc/self/fd")?;
    // One of them is the directory itself.
    Ok(open.count() as u64 - 1)
}

/// User and system time of this process, all threads.
fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn progress_bar(children: u32, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:8} {bar:40} {pos}/{len} {elapsed}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(children.into())
        .with_style(style)
        .with_message(what)
}
