//! A turn: the run that a contestant of a build makes in each round.

use std::path::Path;

use anyhow::{Result, bail};

use super::other_build::OtherBuild;
use super::plan::Plan;
use super::run_process;
use crate::cli::Options;
use crate::contestants;
use crate::measure::resident;
use crate::preflight;
use crate::report::results::Absent;
use crate::types::run::Run;
use crate::types::run_spec::RunSpec;
use crate::types::scenario::Scenario;

pub(super) struct Turn<'a> {
    pub(super) spec: RunSpec,
    /// `None`: this build.
    other: Option<&'a OtherBuild>,
}

impl<'a> Turn<'a> {
    /// The turns of a scenario, in their order. Contestants that cannot take part are added to
    /// `absent`.
    pub(super) fn all(
        plan: &Plan,
        scenario: &Scenario,
        options: &Options,
        other: Option<&'a OtherBuild>,
        absent: &mut Vec<Absent>,
    ) -> Result<Vec<Self>> {
        scenario.check()?;
        preflight::check_processes(scenario.children())?;
        if let Some(size) = scenario.resident() {
            resident::check(size)?;
        }
        if let Some(other) = other {
            other.check(scenario)?;
        }
        let builds = [None].into_iter().chain(other.map(Some));
        let builds: Vec<Option<&OtherBuild>> = builds.collect();
        let mut able = Vec::new();
        for spec in plan.specs(scenario, options) {
            for &other in &builds {
                let turn = Self {
                    spec: spec.clone(),
                    other,
                };
                match turn.reason_unable() {
                    None => able.push(turn),
                    Some(why) if plan.by_name => bail!("{}: {why}", turn.title()),
                    Some(why) => absent.push(turn.absent(why, false)),
                }
            }
        }
        Ok(able)
    }

    /// Makes the run of a round.
    pub(super) fn run(&self, this_program: &Path, round: u32) -> Result<Run> {
        let spec = RunSpec {
            round,
            ..self.spec.clone()
        };
        match self.other {
            None => run_process::run(this_program, &spec),
            Some(other) => run_process::run(&other.program, &spec)
                .map(|run| other.label(run))
                .map_err(|error| other.explain(error)),
        }
    }

    pub(super) fn title(&self) -> String {
        let title = self.spec.kind.title(self.spec.workers);
        match self.other {
            None => title,
            Some(other) => other.title(&title),
        }
    }

    pub(super) fn absent(&self, why: String, failed: bool) -> Absent {
        Absent {
            contestant: self.spec.kind,
            title: self.title(),
            live: self.spec.scenario.live(),
            why,
            failed,
        }
    }

    pub(super) fn description(&self, round: u32) -> String {
        let scenario = self.spec.scenario.name();
        let live = self
            .spec
            .scenario
            .live()
            .map_or_else(String::new, |live| format!(", {live} live"));
        format!("{scenario}{live}: {}, round {round}", self.title())
    }

    /// The reason why the contestant cannot make this run on this machine, if there is one.
    fn reason_unable(&self) -> Option<String> {
        let spec = &self.spec;
        let on_this_machine = || {
            preflight::check_processes(spec.tasks())?;
            preflight::check_descriptors(spec.descriptors())
        };
        contestants::reason_unable(spec.kind, &spec.scenario)
            .or_else(|| self.other?.reason_unable(spec.kind))
            .or_else(|| {
                let error = on_this_machine().err()?;
                Some(format!("{error:#}"))
            })
    }
}
