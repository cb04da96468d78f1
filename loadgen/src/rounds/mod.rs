//! The rounds of a measurement.
//!
//! In each round every contestant makes one run, in a process of its own. `plan` lists what to
//! measure, and `schedule` decides how many rounds are made. A `turn` is a contestant of a build;
//! `run_process` makes its run in a new process and reads the result from a pipe, and `descendants`
//! ends what is left of that process. `other_build` is a second build to compare with; `baseline`
//! finds those that were saved. `warnings` checks the results. The parent process has no memory,
//! descriptors or threads that grow with what it measures, and no children of a scenario but those
//! whose parent has ended.
//!
//! `main` calls [`run`] and [`save_baseline`], and [`measure`] in the process of a run. Rounds call
//! `scenarios` and fill a `report`.

mod baseline;
mod descendants;
mod other_build;
mod plan;
mod run_process;
mod schedule;
mod turn;
mod warnings;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};

pub(crate) use self::baseline::save as save_baseline;
use self::other_build::OtherBuild;
pub(crate) use self::plan::Plan;
pub(crate) use self::run_process::measure;
use self::schedule::{Schedule, Until, Wide};
use self::turn::Turn;
use crate::cli::Options;
use crate::measure::environment;
use crate::measure::interrupt::{self, interrupted};
use crate::report::results::Report;
use crate::report::{hgrm, stdout, table};
use crate::types::warning::Warning;

/// The exit code after an interrupt.
const INTERRUPTED: u8 = 130;

/// Makes all runs of a plan. Prints and saves the report.
pub(crate) fn run(plan: &Plan, options: &Options) -> Result<ExitCode> {
    let other = OtherBuild::of(options)?;
    let schedule = schedule(plan, options);
    check_options(plan, options, schedule, other.is_some())?;
    let mut report = new_report(plan, other.as_ref());
    let sizes = turns(plan, options, other.as_ref(), &mut report)?;
    // Every error that can be known in advance is reported before the first run.
    if let Some(path) = &options.json {
        Report::check_path(path)?;
    }
    if let Some(directory) = &options.hgrm {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("creating {}", directory.display()))?;
    }
    let program = std::env::current_exe().context("finding this program")?;
    interrupt::install_handler(run_process::forward_interrupt)?;
    descendants::adopt_orphans()?;

    let per_round: usize = sizes.iter().map(Vec::len).sum();
    let mut measurement = Measurement {
        by_name: plan.by_name,
        options,
        program,
        report,
        made: 0,
        planned: per_round * schedule.least as usize,
    };
    for turns in &sizes {
        measurement.measure(turns, schedule)?;
    }
    let mut report = measurement.report;
    report.interrupted |= interrupted();
    report.summarize();
    if let Some(path) = &options.json {
        report.save(path)?;
    }
    stdout::print(&table::text(&report)?)?;
    if let Some(directory) = &options.hgrm {
        hgrm::write(&report, directory)?;
    }
    Ok(exit_code(&report, options))
}

fn schedule(plan: &Plan, options: &Options) -> Schedule {
    let until = options.until_width.map(|width| Until {
        width,
        max_rounds: options.max_rounds,
    });
    Schedule {
        least: plan.repeat,
        until,
    }
}

fn check_options(
    plan: &Plan,
    options: &Options,
    schedule: Schedule,
    two_builds: bool,
) -> Result<()> {
    for (nth, kind) in plan.kinds.iter().enumerate() {
        ensure!(
            !plan.kinds[..nth].contains(kind),
            "{} is named twice",
            kind.name()
        );
    }
    ensure!(
        schedule.until.is_none() || two_builds || plan.kinds.len() > 1,
        "--until-width needs something to compare with; add a contestant to --with, or use --against"
    );
    let reference = plan.kinds.first().copied().filter(|_| !two_builds);
    for condition in &options.fail_if {
        let kind = condition.contestant;
        if let Some(kind) = kind.filter(|kind| !plan.kinds.contains(kind)) {
            bail!(
                "--fail-if {condition}: {} does not take part; add it to --with",
                kind.name()
            );
        }
        if let Some(why) = condition.reason_unknown(schedule.least, reference) {
            bail!("--fail-if {condition}: {why}");
        }
    }
    Ok(())
}

fn new_report(plan: &Plan, other: Option<&OtherBuild>) -> Report {
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
    report.against = other.map(|other| other.name.clone());
    report.warnings = machine.into_iter().chain(repetitions).collect();
    report
}

/// The turns of each scenario. Contestants that cannot take part are added to the report.
fn turns<'a>(
    plan: &Plan,
    options: &Options,
    other: Option<&'a OtherBuild>,
    report: &mut Report,
) -> Result<Vec<Vec<Turn<'a>>>> {
    let of_scenario = |scenario| Turn::all(plan, scenario, options, other, &mut report.absent);
    let turns = plan.scenarios.iter().map(of_scenario);
    let turns = turns.collect::<Result<Vec<_>>>()?;
    if turns.iter().all(Vec::is_empty) {
        let whys = report
            .absent
            .iter()
            .map(|absent| format!("{}: {}", absent.title, absent.why));
        bail!(
            "no contestant can take part: {}",
            whys.collect::<Vec<_>>().join("; ")
        );
    }
    Ok(turns)
}

/// A measurement while it is made.
struct Measurement<'a> {
    by_name: bool,
    options: &'a Options,
    program: PathBuf,
    report: Report,
    /// The number of runs so far, and of all runs that are planned.
    made: usize,
    planned: usize,
}

impl Measurement<'_> {
    /// Makes the rounds of a scenario.
    fn measure(&mut self, turns: &[Turn<'_>], schedule: Schedule) -> Result<()> {
        let Some(first) = turns.first() else {
            return Ok(());
        };
        let live = first.spec.scenario.live();
        let round = |this: &mut Self, round| this.round(turns, round, schedule.least);
        let (wide, rounds) = schedule.run(self, round, |this, limit| {
            this.report.summarize();
            schedule::wide(&this.report, live, limit)
        })?;
        let Some(until) = schedule.until else {
            return Ok(());
        };
        let warning = |Wide { title, width }| Warning::WideInterval {
            title,
            live,
            width,
            wanted: until.width.part(),
            rounds,
        };
        self.report.warnings.extend(wide.into_iter().map(warning));
        Ok(())
    }

    /// Makes a run of each contestant. No rounds are added after a failure.
    fn round(&mut self, turns: &[Turn<'_>], round: u32, least: u32) -> Result<ControlFlow<()>> {
        if round > least {
            self.planned += turns.len();
        }
        let mut may_add = true;
        for turn in turns {
            if interrupted() {
                return Ok(ControlFlow::Break(()));
            }
            self.made += 1;
            if self.planned > 1 {
                let description = turn.description(round);
                eprintln!("{}/{} {description}", self.made, self.planned);
            }
            match turn.run(&self.program, round) {
                Ok(run) => self.report.add(run),
                Err(_) if interrupted() => return Ok(ControlFlow::Break(())),
                Err(why) if self.by_name => return Err(why.context(turn.title())),
                Err(why) => {
                    let why = format!("{why:#}");
                    self.report.absent.push(turn.absent(why, true));
                    may_add = false;
                }
            }
            self.report.interrupted |= interrupted();
            if let Some(path) = &self.options.json {
                self.report.summarize();
                self.report.save(path)?;
            }
        }
        Ok(match may_add || round < least {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        })
    }
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
