//! The memory of `exitring run` with very many jobs.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::contestants::{Builds, Contestant, write_list};

/// The most megabytes at which the project aims.
const TARGET: u64 = 8;
/// Options, and by how much fewer jobs run with them.
const OPTIONS: &[(&[&str], usize)] = &[(&[], 1), (&["-k"], 10)];
/// The memory is read as often, so the last 10 ms of a run are missing.
const INTERVAL: Duration = Duration::from_millis(10);

/// Runs the jobs once with each build and each of the options, and prints the most memory that was
/// resident.
pub(crate) fn measure(builds: &Builds, jobs: usize, at_once: usize, dir: &Path) {
    println!(
        "| | jobs | at a time | seconds | peak resident memory | target | of it anonymous at the end |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    measure_build("", &builds.exitring, jobs, at_once, dir);
    if let Some(other) = &builds.against {
        measure_build("other build: ", other, jobs, at_once, dir);
    }
}

fn measure_build(name: &str, exitring: &Path, jobs: usize, at_once: usize, dir: &Path) {
    for (options, part) in OPTIONS {
        let jobs = (jobs / part).max(1);
        let list = write_list(dir, jobs);
        let contestant =
            Contestant::exitring_run(exitring, options, jobs, &at_once.to_string(), &list);
        let start = Instant::now();
        let mut child = contestant.command().spawn().expect("exitring starts");
        let mut memory = None;
        let status = loop {
            if let Some(status) = child.try_wait().expect("it is a child") {
                break status;
            }
            memory = read_memory(child.id()).or(memory);
            sleep(INTERVAL);
        };
        assert!(status.success(), "{}: {status}", contestant.name);
        let (peak, anonymous) = memory.expect("the run takes longer than the interval");
        println!(
            "| {name}{} | {jobs} | {at_once} | {:.0} | {:.1} MB | ≤ {TARGET} MB | {:.1} MB |",
            contestant.name,
            start.elapsed().as_secs_f64(),
            peak as f64 / 1e6,
            anonymous as f64 / 1e6,
        );
    }
}

/// The most resident memory of a process so far (`VmHWM`), and its anonymous memory now, in bytes.
/// A process that has ended has none.
fn read_memory(pid: u32) -> Option<(u64, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = |name: &str| {
        let mut values = text.lines().filter_map(|line| line.strip_prefix(name));
        let kilobytes = values.next()?.trim().strip_suffix("kB")?.trim();
        Some(kilobytes.parse::<u64>().ok()? * 1024)
    };
    Some((value("VmHWM:")?, value("RssAnon:")?))
}
