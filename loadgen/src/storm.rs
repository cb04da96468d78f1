//! The storm: all children exit at once.

use std::sync::Arc;

use anyhow::Result;

use crate::children::{Children, now_ns};
use crate::cli::StormOptions;
use crate::contestants;
use crate::latency::Percentiles;
use crate::limits;
use crate::process::{cpu_ns, open_descriptors};
use crate::progress::progress_bar;
use crate::report::{Report, StormRun};
use crate::tally::Tally;

/// Makes the run, prints it, and saves it.
pub(crate) fn run(options: &StormOptions) -> Result<Report<StormRun>> {
    limits::check_processes(options.children)?;
    let report = Report::new("storm", vec![storm(options)?]);
    report.print();
    if let Some(path) = &options.json {
        report.write_json(path)?;
    }
    Ok(report)
}

fn storm(options: &StormOptions) -> Result<StormRun> {
    // Forked before there are threads: nobody can hold a lock in the children.
    let bar = progress_bar(options.children.into(), "forking");
    let children = Children::fork(options.children, || bar.inc(1))?;
    bar.finish_and_clear();
    let tally = Arc::new(Tally::new(children));

    let fds_before = open_descriptors()?;
    let mut contestant = contestants::make(options)?;
    contestant.watch_all(&tally)?;
    let fds_held = open_descriptors()?.saturating_sub(fds_before);

    let bar = progress_bar(options.children.into(), "exiting");
    let cpu_before = cpu_ns();
    let released = now_ns();
    tally.children.release();
    tally.wait(|done| bar.set_position(done));
    let cpu = cpu_ns() - cpu_before;
    bar.finish_and_clear();

    let name = contestant.name();
    drop(contestant);
    let exits = tally.exits();
    Ok(StormRun {
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
