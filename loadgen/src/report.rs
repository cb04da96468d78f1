//! What a measurement found, with all there is to know about how.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::contestants::Kind;
use crate::environment::Environment;
use crate::metric::Metric;
use crate::run::Run;
use crate::scenarios::Scenario;
use crate::warning::Warning;

pub(crate) const SCHEMA: &str = "exitring-loadgen/2";

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Report {
    /// The version of this format.
    pub(crate) schema: String,
    /// `storm`, `steady`, … or `scale` for several.
    pub(crate) scenario: String,
    /// What the contestants are compared by first.
    pub(crate) headline: Metric,
    /// The command line, without the program.
    pub(crate) command: String,
    pub(crate) environment: Environment,
    /// What was asked for.
    pub(crate) scenarios: Vec<Scenario>,
    /// Who was to take part, in this order.
    pub(crate) contestants: Vec<Kind>,
    pub(crate) repeat: u32,
    /// Ctrl-C: what was not measured is not here.
    pub(crate) interrupted: bool,
    pub(crate) warnings: Vec<Warning>,
    /// Contestants that did not take part, and why.
    pub(crate) absent: Vec<Absent>,
    /// Of the first contestant, median over the rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) spawn_cost_ratio: Option<f64>,
    /// In the order in which they were made.
    pub(crate) runs: Vec<Run>,
    /// The runs of one contestant in one scenario together.
    pub(crate) summary: Vec<Line>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Absent {
    pub(crate) contestant: Kind,
    pub(crate) title: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) live: Option<u32>,
    pub(crate) why: String,
    /// It was to be able to, and did not.
    pub(crate) failed: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Line {
    pub(crate) contestant: Kind,
    pub(crate) title: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) live: Option<u32>,
    pub(crate) rounds: usize,
    pub(crate) metrics: BTreeMap<Metric, Spread>,
}

/// Over the rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    /// As a multiple of exitring's in the same round, median over the rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ratio_to_exitring: Option<f64>,
}

impl Report {
    pub(crate) fn new(
        scenario: &str,
        scenarios: &[Scenario],
        contestants: &[Kind],
        repeat: u32,
    ) -> Self {
        let environment = Environment::read();
        let machine = Warning::about_the_machine(environment.cores);
        let few = Warning::about_repetitions(repeat);
        Self {
            schema: SCHEMA.into(),
            scenario: scenario.into(),
            headline: scenarios.first().map_or(Metric::P50, Scenario::headline),
            command: std::env::args().skip(1).collect::<Vec<_>>().join(" "),
            environment,
            scenarios: scenarios.to_vec(),
            contestants: contestants.to_vec(),
            repeat,
            interrupted: false,
            warnings: machine.into_iter().chain(few).collect(),
            absent: Vec::new(),
            spawn_cost_ratio: None,
            runs: Vec::new(),
            summary: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, run: Run) {
        self.interrupted |= run.interrupted;
        self.runs.push(run);
        self.compare();
    }

    /// Works out ratios and the summary from the runs so far.
    fn compare(&mut self) {
        let ratios: Vec<_> = self
            .runs
            .iter()
            .map(|run| self.ratio(self.headline, run))
            .collect();
        for (run, ratio) in self.runs.iter_mut().zip(ratios) {
            run.ratio_to_exitring = ratio;
        }
        let mut lines: Vec<(Kind, Option<u32>)> = Vec::new();
        for run in &self.runs {
            if !lines.contains(&(run.contestant, run.live)) {
                lines.push((run.contestant, run.live));
            }
        }
        // One size after the other, in the order of the contestants.
        lines.sort_by_key(|&(_, live)| live);
        let lines = lines.into_iter().map(|(kind, live)| self.line(kind, live));
        self.summary = lines.collect();
        let first = self
            .summary
            .first()
            .and_then(|line| line.metrics.get(&Metric::SpawnCost));
        self.spawn_cost_ratio = first.map(|spread| spread.median);
    }

    /// A run against exitring's own in the same round.
    fn ratio(&self, metric: Metric, run: &Run) -> Option<f64> {
        let ours = self.runs.iter().find(|other| {
            other.contestant == Kind::Exitring && (other.round, other.live) == (run.round, run.live)
        })?;
        let (ours, theirs) = (metric.of(ours)?, metric.of(run)?);
        (ours > 0.0).then(|| theirs / ours)
    }

    fn line(&self, kind: Kind, live: Option<u32>) -> Line {
        let runs = self
            .runs
            .iter()
            .filter(|run| (run.contestant, run.live) == (kind, live));
        let runs: Vec<_> = runs.collect();
        let spread = |&metric: &Metric| {
            let values: Vec<_> = runs.iter().filter_map(|run| metric.of(run)).collect();
            let ratios = runs
                .iter()
                .filter_map(|run| self.ratio(metric, run))
                .collect();
            let spread = Spread {
                median: median(values.clone())?,
                min: values.iter().copied().reduce(f64::min)?,
                max: values.iter().copied().reduce(f64::max)?,
                ratio_to_exitring: median(ratios),
            };
            Some((metric, spread))
        };
        Line {
            contestant: kind,
            title: runs
                .first()
                .map_or_else(String::new, |run| run.title.clone()),
            live,
            rounds: runs.len(),
            metrics: Metric::value_variants().iter().filter_map(spread).collect(),
        }
    }

    /// Whether every exit of every contestant was delivered once and right.
    pub(crate) fn is_clean(&self) -> bool {
        self.runs.iter().all(Run::is_clean)
    }

    /// Whether a contestant did not do what it was to be able to.
    pub(crate) fn has_failures(&self) -> bool {
        self.absent.iter().any(|absent| absent.failed)
    }

    /// Says why a result could not be saved there, if so, and leaves what is there alone.
    pub(crate) fn check_place(path: &Path) -> Result<()> {
        let check = || match is_special(path) {
            true => File::options().write(true).open(path).map(drop),
            false => {
                let new = path.with_extension("json.new");
                File::create(&new).and_then(|_| std::fs::remove_file(&new))
            }
        };
        check().with_context(|| format!("writing {}", path.display()))
    }

    /// Whole or not at all, so that what was saved before survives whatever happens meanwhile.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        let new = path.with_extension("json.new");
        let write = || -> Result<()> {
            if is_special(path) {
                let file = File::options().write(true).open(path)?;
                return Ok(serde_json::to_writer_pretty(file, self)?);
            }
            let mut writer = BufWriter::new(File::create(&new)?);
            serde_json::to_writer_pretty(&mut writer, self)?;
            writeln!(writer)?;
            writer.into_inner()?.sync_all()?;
            Ok(std::fs::rename(&new, path)?)
        };
        write().with_context(|| format!("writing {}", path.display()))
    }

    pub(crate) fn load(path: &Path) -> Result<Self> {
        let read = || -> Result<Self> {
            let text = std::fs::read_to_string(path)?;
            let value: serde_json::Value = serde_json::from_str(&text)?;
            let schema = value["schema"].as_str().unwrap_or("no schema at all");
            ensure!(
                schema == SCHEMA,
                "its format is {schema}, and this program reads {SCHEMA}"
            );
            Ok(serde_json::from_value(value)?)
        };
        read().with_context(|| format!("reading {}", path.display()))
    }
}

/// A device, a pipe, a link: to be written to, not to be replaced.
fn is_special(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|meta| !meta.is_file())
}

pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (low, high) = (
        values.get(values.len().checked_sub(1)? / 2)?,
        values.get(values.len() / 2)?,
    );
    Some(f64::midpoint(*low, *high))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(contestant: Kind, round: u32, drain_ns: u64) -> Run {
        Run {
            contestant,
            round,
            drain_ns,
            title: contestant.name(),
            ..Run::default()
        }
    }

    #[test]
    fn medians() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0]), Some(3.0));
        assert_eq!(median(vec![3.0, 1.0]), Some(2.0));
        assert_eq!(median(vec![9.0, 1.0, 2.0]), Some(2.0));
    }

    #[test]
    fn ratios_are_to_exitring_in_the_same_round() {
        let mut report = Report::new("storm", &[], &[], 3);
        report.headline = Metric::Drain;
        for (round, ours, theirs) in [(1, 100, 200), (2, 1000, 1000), (3, 100, 300)] {
            report.add(run(Kind::Tokio, round, theirs));
            report.add(run(Kind::Exitring, round, ours));
        }
        let ratios = report
            .runs
            .iter()
            .map(|run| run.ratio_to_exitring.expect("exitring is there"));
        assert_eq!(ratios.collect::<Vec<_>>(), [2.0, 1.0, 1.0, 1.0, 3.0, 1.0]);
        let tokio = &report.summary[0];
        assert_eq!((tokio.contestant, tokio.rounds), (Kind::Tokio, 3));
        let expected = Spread {
            median: 300.0,
            min: 200.0,
            max: 1000.0,
            // The median of the rounds' ratios, not the ratio of the medians.
            ratio_to_exitring: Some(2.0),
        };
        assert_eq!(tokio.metrics[&Metric::Drain], expected);
        assert_eq!(tokio.metrics.get(&Metric::P50), None);

        let mut alone = Report::new("storm", &[], &[], 1);
        alone.add(run(Kind::Tokio, 1, 1));
        assert_eq!(alone.runs[0].ratio_to_exitring, None);
    }
}
