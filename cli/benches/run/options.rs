//! What options of `exitring run` cost a run of empty jobs.

use std::path::Path;
use std::process::Command;

use crate::contestants::{Builds, Contestant, PROGRAM, Table, write_list};
use crate::spread::Spread;
use crate::statistics::{Ratio, median};
use crate::{Measured, position_of_run};

/// The options, DIR being a directory for files, and the least ratio to the run without them.
const OPTIONS: &[(&str, Option<f64>)] = &[
    ("", None),
    ("-k", Some(0.95)),
    ("--tag", None),
    ("-k --tag", None),
    ("--contain", Some(0.75)),
    ("--joblog DIR/log", None),
    ("--junit DIR/junit.xml", None),
    ("--trace DIR/trace.json --report DIR/run.html", None),
    ("--timeout 1h", None),
    ("--slow-after 1h", None),
    ("--load 9999", None),
    ("--memfree 10M", None),
    ("--pressure memory=99", None),
    ("--jobserver", None),
];
/// The least ratio of the run without options to another build: the one before a change.
const TARGET_AGAINST: f64 = 0.98;
const OTHER_BUILD: &str = "other build";

/// The contestants: `exitring run` with each of the options, and the other build without.
pub(crate) fn table(builds: &Builds, jobs: usize, at_once: usize, dir: &Path) -> Table {
    let mut table = Table::default();
    let list = write_list(dir, jobs);
    let files = dir.to_str().expect("the temporary directory is UTF-8");
    let at_once = at_once.to_string();
    let contestant = |exitring: &Path, options: &str| {
        let options = options.replace("DIR", files);
        let options: Vec<_> = options.split_whitespace().collect();
        Contestant::exitring_run(exitring, &options, jobs, &at_once, &list)
    };
    for (options, target) in OPTIONS {
        if *options == "--contain"
            && let Err(reason) = can_contain(&builds.exitring)
        {
            table.absent.push(format!("--contain: {reason}"));
            continue;
        }
        let mut contestant = contestant(&builds.exitring, options);
        contestant.name = format!("exitring run {options}").trim().replace("DIR/", "");
        contestant.target = *target;
        contestant.creates = Some(dir.join("log"));
        table.contestants.push(contestant);
    }
    if let Some(other) = &builds.against {
        let mut contestant = contestant(other, "");
        contestant.name = OTHER_BUILD.into();
        table.contestants.push(contestant);
    }
    table
}

fn can_contain(exitring: &Path) -> Result<(), String> {
    let mut command = Command::new(exitring);
    command.args(["run", "-q", "--contain", "--", PROGRAM, ":::", "x"]);
    let output = command.output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(text.lines().next().unwrap_or_default().to_owned())
}

/// Prints the ratios to the run without options, with the targets.
pub(crate) fn print(contestants: &[Contestant], measured: &[Measured]) {
    let run = &measured[position_of_run(contestants)];
    println!("| | jobs/s (least to most) | ratio to exitring run | target | CPU per job |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    for (contestant, measured) in contestants.iter().zip(measured) {
        let target = contestant.target.map(|target| format!("≥ {target}"));
        println!(
            "| {} | {} | {} | {} | {:.0} µs |",
            contestant.name,
            Spread::of(&measured.jobs_per_second),
            Ratio::of(&measured.jobs_per_second, &run.jobs_per_second),
            target.unwrap_or_default(),
            median(&measured.cpu_per_job) * 1e6,
        );
    }
    let is_other = |contestant: &Contestant| contestant.name == OTHER_BUILD;
    if let Some(other) = contestants.iter().position(is_other) {
        println!(
            "\nexitring run has {} of the jobs/s of the other build; target: ≥ {TARGET_AGAINST}",
            Ratio::of(&run.jobs_per_second, &measured[other].jobs_per_second)
        );
    }
}
