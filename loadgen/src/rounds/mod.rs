//! The rounds of a measurement.
//!
//! In each round every contestant makes one run, in a process of its own. `plan` lists what to
//! measure, `run_process` makes a run in a new process and reads the result from a pipe, and
//! `warnings` checks the results. The parent process has no children of a scenario, and no memory,
//! descriptors or threads that grow with what it measures.
//!
//! `main` calls [`run`], and [`measure`] in the process of a run. Rounds call `scenarios` and fill
//! a `report`.

mod plan;
mod run_process;
mod warnings;

use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};

pub(crate) use self::plan::Plan;
pub(crate) use self::run_process::measure;
use crate::cli::Options;
use crate::contestants;
use crate::measure::environment;
use crate::measure::interrupt::{self, interrupted};
use crate::preflight;
use crate::report::results::{Absent, Report};
use crate::report::{hgrm, stdout, table};
use crate::types::run_spec::RunSpec;

/// The exit code after an interrupt.
const INTERRUPTED: u8 = 130;

/// Makes all runs of a plan. Prints and saves the report.
pub(crate) fn run(plan: &Plan, options: &Options) -> Result<ExitCode> {
    check_contestants(plan, options)?;
    let mut report = new_report(plan);
    let specs = specs(plan, options, &mut report)?;
    // Every error that can be known in advance is reported before the first run.
    if let Some(path) = &options.json {
        Report::check_path(path)?;
    }
    if let Some(folder) = &options.hgrm {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("creating {}", folder.display()))?;
    }
    interrupt::install_handler(run_process::forward_interrupt)?;

    let total = specs.len();
    for (nth, spec) in specs.into_iter().enumerate() {
        if interrupted() {
            break;
        }
        if total > 1 {
            eprintln!("{}/{total} {}", nth + 1, description(&spec));
        }
        match run_process::run(&spec) {
            Ok(run) => report.add(run),
            Err(_) if interrupted() => break,
            Err(why) if plan.by_name => return Err(why.context(spec.kind.name())),
            Err(why) => report.absent.push(absent(&spec, format!("{why:#}"), true)),
        }
        report.interrupted |= interrupted();
        if let Some(path) = &options.json {
            report.save(path)?;
        }
    }
    report.interrupted |= interrupted();
    if let Some(path) = &options.json {
        report.save(path)?;
    }
    stdout::print(&table::text(&report)?)?;
    if let Some(folder) = &options.hgrm {
        hgrm::write(&report, folder)?;
    }
    Ok(exit_code(&report, options))
}

fn check_contestants(plan: &Plan, options: &Options) -> Result<()> {
    for (nth, kind) in plan.kinds.iter().enumerate() {
        ensure!(
            !plan.kinds[..nth].contains(kind),
            "{} is named twice",
            kind.name()
        );
    }
    for condition in &options.fail_if {
        let kind = condition.contestant;
        if let Some(kind) = kind.filter(|kind| !plan.kinds.contains(kind)) {
            bail!(
                "--fail-if {condition}: {} does not take part; add it to --with",
                kind.name()
            );
        }
    }
    Ok(())
}

fn new_report(plan: &Plan) -> Report {
    let environment = environment::read();
    let machine = warnings::about_machine(environment.cores);
    let repetitions = warnings::about_repetitions(plan.repeat);
    let mut report = Report::new(
        plan.name,
        &plan.scenarios,
        &plan.kinds,
        plan.repeat,
        environment,
    );
    report.warnings = machine.into_iter().chain(repetitions).collect();
    report
}

/// All runs, round by round. Contestants that cannot take part are added to the report.
fn specs(plan: &Plan, options: &Options, report: &mut Report) -> Result<Vec<RunSpec>> {
    let mut specs = Vec::new();
    for scenario in &plan.scenarios {
        scenario.check()?;
        preflight::check_processes(scenario.children())?;
        let mut able = Vec::new();
        for spec in plan.specs(scenario, options) {
            match reason_unable(&spec) {
                None => able.push(spec),
                Some(why) if plan.by_name => bail!("{}: {why}", spec.kind.name()),
                Some(why) => report.absent.push(absent(&spec, why, false)),
            }
        }
        for round in 1..=plan.repeat {
            specs.extend(able.iter().map(|spec| RunSpec {
                round,
                ..spec.clone()
            }));
        }
    }
    if specs.is_empty() {
        let whys = report
            .absent
            .iter()
            .map(|absent| format!("{}: {}", absent.title, absent.why));
        bail!(
            "no contestant can take part: {}",
            whys.collect::<Vec<_>>().join("; ")
        );
    }
    Ok(specs)
}

/// The reason why the contestant cannot make this run on this machine, if there is one.
fn reason_unable(spec: &RunSpec) -> Option<String> {
    let on_this_machine = || {
        preflight::check_processes(spec.tasks())?;
        preflight::check_descriptors(spec.descriptors())
    };
    contestants::reason_unable(spec.kind, &spec.scenario).or_else(|| {
        let error = on_this_machine().err()?;
        Some(format!("{error:#}"))
    })
}

fn absent(spec: &RunSpec, why: String, failed: bool) -> Absent {
    Absent {
        contestant: spec.kind,
        title: spec.kind.title(spec.workers),
        live: spec.scenario.live(),
        why,
        failed,
    }
}

fn description(spec: &RunSpec) -> String {
    let (scenario, title) = (spec.scenario.name(), spec.kind.title(spec.workers));
    let live = spec
        .scenario
        .live()
        .map_or_else(String::new, |live| format!(", {live} live"));
    format!("{scenario}{live}: {title}, round {}", spec.round)
}

fn exit_code(report: &Report, options: &Options) -> ExitCode {
    if report.interrupted {
        eprintln!("loadgen: interrupted; the results so far were written");
        return ExitCode::from(INTERRUPTED);
    }
    if report.has_failures() {
        return ExitCode::from(2);
    }
    let failures = options
        .fail_if
        .iter()
        .filter_map(|condition| condition.failure(report));
    let failures: Vec<_> = failures.collect();
    for failure in &failures {
        eprintln!("loadgen: failed: {failure}");
    }
    match report.is_clean() && failures.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
