//! What a run found, for people and for programs.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::environment::Environment;
use crate::latency::Percentiles;

#[derive(Debug, Serialize)]
pub(crate) struct Report<R> {
    pub(crate) schema: &'static str,
    pub(crate) scenario: &'static str,
    pub(crate) environment: Environment,
    /// What a spawn costs with live children, as a multiple of what it costs without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) spawn_cost_ratio: Option<f64>,
    pub(crate) runs: Vec<R>,
}

/// One run of a scenario.
pub(crate) trait Run: Serialize {
    fn contestant(&self) -> &str;

    /// For people: what, and how much.
    fn rows(&self) -> Vec<(&'static str, String)>;

    /// Whether every exit was delivered once and right.
    fn is_clean(&self) -> bool;
}

#[derive(Debug, Serialize)]
pub(crate) struct StormRun {
    pub(crate) contestant: String,
    pub(crate) children: u32,
    pub(crate) exits: u64,
    pub(crate) lost: u64,
    pub(crate) duplicates: u64,
    /// Delivered, with the wrong pid or status.
    pub(crate) wrong: u64,
    /// From the child's last instruction to the callback's first.
    pub(crate) latency_ns: Percentiles,
    /// From the release to the end of the last callback.
    pub(crate) drain_ns: u64,
    /// User and system time of this process between the two, reaping included.
    pub(crate) cpu_ns_per_exit: u64,
    /// Descriptors open while all are watched, beyond those open before there was a watcher.
    pub(crate) fds_held: u64,
}

impl<R: Run> Report<R> {
    pub(crate) fn new(scenario: &'static str, runs: Vec<R>) -> Self {
        Self {
            schema: "exitring-loadgen/1",
            scenario,
            environment: Environment::read(),
            spawn_cost_ratio: None,
            runs,
        }
    }

    /// Whether every exit was delivered once and right.
    pub(crate) fn is_clean(&self) -> bool {
        self.runs.iter().all(Run::is_clean)
    }

    pub(crate) fn print(&self) {
        let environment = &self.environment;
        println!(
            "{} on Linux {}, {} × {}",
            self.scenario, environment.kernel, environment.cores, environment.cpu
        );
        for run in &self.runs {
            println!("{}", table(run.contestant(), &run.rows()));
        }
        if let Some(ratio) = self.spawn_cost_ratio {
            println!("spawn_cost_ratio {ratio:.3}");
        }
    }

    pub(crate) fn write_json(&self, path: &Path) -> Result<()> {
        let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
        let mut writer = BufWriter::new(file);
        serde_json::to_writer_pretty(&mut writer, self)
            .map_err(anyhow::Error::from)
            .and_then(|()| Ok(writeln!(writer)?))
            .and_then(|()| Ok(writer.flush()?))
            .with_context(|| format!("writing {}", path.display()))
    }
}

impl Run for StormRun {
    fn contestant(&self) -> &str {
        &self.contestant
    }

    fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = vec![
            ("children", self.children.to_string()),
            ("exits", self.exits.to_string()),
            ("lost", self.lost.to_string()),
            ("duplicates", self.duplicates.to_string()),
            ("wrong pid or status", self.wrong.to_string()),
        ];
        rows.extend(self.latency_ns.rows());
        rows.extend([
            ("drain time", millis(self.drain_ns)),
            ("CPU per exit", micros(self.cpu_ns_per_exit)),
            ("descriptors held", self.fds_held.to_string()),
        ]);
        rows
    }

    fn is_clean(&self) -> bool {
        self.lost == 0 && self.duplicates == 0 && self.wrong == 0
    }
}

impl Percentiles {
    pub(crate) fn rows(&self) -> [(&'static str, String); 5] {
        [
            ("latency p50", micros(self.p50)),
            ("latency p90", micros(self.p90)),
            ("latency p99", micros(self.p99)),
            ("latency p99.9", micros(self.p99_9)),
            ("latency max", micros(self.max)),
        ]
    }
}

fn table(title: &str, rows: &[(&'static str, String)]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header([title, ""]);
    for (name, value) in rows {
        table.add_row([*name, value]);
    }
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

pub(crate) fn micros(ns: u64) -> String {
    format!("{:.1} µs", ns as f64 / 1e3)
}

fn millis(ns: u64) -> String {
    format!("{:.1} ms", ns as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> StormRun {
        StormRun {
            contestant: "nobody".into(),
            children: 1,
            exits: 1,
            lost: 0,
            duplicates: 0,
            wrong: 0,
            latency_ns: Percentiles::default(),
            drain_ns: 0,
            cpu_ns_per_exit: 0,
            fds_held: 0,
        }
    }

    #[test]
    fn a_report_is_clean_only_without_lost_duplicate_and_wrong_exits() {
        assert!(Report::new("test", vec![run(), run()]).is_clean());
        for spoil in [
            |run: &mut StormRun| run.lost = 1,
            |run: &mut StormRun| run.duplicates = 1,
            |run: &mut StormRun| run.wrong = 1,
        ] {
            let mut spoilt = run();
            spoil(&mut spoilt);
            assert!(!Report::new("test", vec![run(), spoilt]).is_clean());
        }
    }
}
