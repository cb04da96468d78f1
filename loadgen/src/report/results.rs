//! The report of a measurement: the results, and how they were made. It is saved as JSON.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::summary::{Line, Runs};
use crate::types::environment::Environment;
use crate::types::kind::Kind;
use crate::types::metric::Metric;
use crate::types::run::Run;
use crate::types::scenario::Scenario;
use crate::types::warning::Warning;

pub(crate) const SCHEMA: &str = "exitring-loadgen/3";
/// An older version whose runs have the same form. Its summary is computed again.
const WITH_OLD_SUMMARY: &str = "exitring-loadgen/2";

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Report {
    /// The version of this format.
    pub(crate) schema: String,
    /// `storm`, `steady`, … or `scale` for several.
    pub(crate) scenario: String,
    /// The metric by which contestants are compared first.
    pub(crate) headline: Metric,
    /// The command line without the name of the program.
    pub(crate) command: String,
    pub(crate) environment: Environment,
    /// The measured scenarios with their options.
    pub(crate) scenarios: Vec<Scenario>,
    /// The contestants that were to take part, in this order.
    pub(crate) contestants: Vec<Kind>,
    /// The name of the other build, if two builds are compared. Its runs have this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) against: Option<String>,
    /// The least number of rounds. The summary has the number that was made.
    pub(crate) repeat: u32,
    /// An interrupt ended the measurement; later runs are missing.
    pub(crate) interrupted: bool,
    pub(crate) warnings: Vec<Warning>,
    /// Contestants that did not take part, with the reason.
    pub(crate) absent: Vec<Absent>,
    /// The spawn cost ratio of the first contestant, median over the rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) spawn_cost_ratio: Option<f64>,
    /// All runs, in the order in which they were made.
    pub(crate) runs: Vec<Run>,
    /// One line for the runs of one contestant of one build in one scenario.
    pub(crate) summary: Vec<Line>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Absent {
    pub(crate) contestant: Kind,
    pub(crate) title: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) live: Option<u32>,
    pub(crate) why: String,
    /// The contestant should have been able to take part, but failed.
    pub(crate) failed: bool,
}

impl Report {
    pub(crate) fn new(
        scenario: &str,
        scenarios: &[Scenario],
        contestants: &[Kind],
        repeat: u32,
        environment: Environment,
    ) -> Self {
        Self {
            schema: SCHEMA.into(),
            scenario: scenario.into(),
            headline: scenarios.first().map_or(Metric::P50, Scenario::headline),
            command: std::env::args().skip(1).collect::<Vec<_>>().join(" "),
            environment,
            scenarios: scenarios.to_vec(),
            contestants: contestants.to_vec(),
            against: None,
            repeat,
            interrupted: false,
            warnings: Vec::new(),
            absent: Vec::new(),
            spawn_cost_ratio: None,
            runs: Vec::new(),
            summary: Vec::new(),
        }
    }

    /// Adds a run. The summary does not contain it until [`Self::summarize`].
    pub(crate) fn add(&mut self, run: Run) {
        self.interrupted |= run.interrupted;
        self.runs.push(run);
    }

    /// Computes everything that follows from the runs.
    pub(crate) fn summarize(&mut self) {
        let runs = Runs {
            contestants: &self.contestants,
            against: self.against.as_deref(),
            runs: &self.runs,
        };
        self.summary = runs.summarize();
        let ratios = runs.ratios(self.headline);
        for (run, ratio) in self.runs.iter_mut().zip(ratios) {
            run.ratio_to_reference = ratio;
        }
        let first = self
            .summary
            .first()
            .and_then(|line| line.metrics.get(&Metric::SpawnCost));
        self.spawn_cost_ratio = first.map(|spread| spread.median);
    }

    /// Whether every exit of every contestant was delivered exactly once and with the right status.
    pub(crate) fn is_clean(&self) -> bool {
        self.runs.iter().all(Run::is_clean)
    }

    /// Whether a contestant failed that should have been able to take part.
    pub(crate) fn has_failures(&self) -> bool {
        self.absent.iter().any(|absent| absent.failed)
    }

    /// Checks that a report can be saved at a path, without changing a file that is there.
    pub(crate) fn check_path(path: &Path) -> Result<()> {
        let check = || match is_special(path) {
            true => File::options().write(true).open(path).map(drop),
            false => {
                let new = path.with_extension("json.new");
                File::create(&new).and_then(|_| std::fs::remove_file(&new))
            }
        };
        check().with_context(|| format!("writing {}", path.display()))
    }

    /// Saves the report atomically: an older file stays whole if this one cannot be written. Special
    /// files are written in place.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        let new = path.with_extension("json.new");
        let write = || -> Result<()> {
            if is_special(path) {
                let file = File::options().write(true).truncate(true).open(path)?;
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
            let mut value: serde_json::Value = serde_json::from_str(&text)?;
            let schema = value["schema"].as_str().unwrap_or("missing").to_owned();
            if schema == WITH_OLD_SUMMARY {
                value["summary"] = serde_json::Value::Array(Vec::new());
                let mut report: Self = serde_json::from_value(value)?;
                report.schema = SCHEMA.into();
                report.summarize();
                return Ok(report);
            }
            ensure!(
                schema == SCHEMA,
                "its schema is {schema}, but this program reads {SCHEMA} and {WITH_OLD_SUMMARY}; measure again"
            );
            Ok(serde_json::from_value(value)?)
        };
        read().with_context(|| format!("reading {}", path.display()))
    }
}

/// Whether the path is a device, a pipe or a link. These are written to, not replaced.
fn is_special(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|meta| !meta.is_file())
}
