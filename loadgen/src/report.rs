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
pub(crate) struct Report {
    pub(crate) schema: &'static str,
    pub(crate) scenario: &'static str,
    pub(crate) environment: Environment,
    pub(crate) runs: Vec<Run>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Run {
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

impl Report {
    pub(crate) fn new(scenario: &'static str, runs: Vec<Run>) -> Self {
        Self {
            schema: "exitring-loadgen/1",
            scenario,
            environment: Environment::read(),
            runs,
        }
    }

    /// Whether every exit was delivered once and right.
    pub(crate) fn is_clean(&self) -> bool {
        self.runs
            .iter()
            .all(|run| run.lost == 0 && run.duplicates == 0 && run.wrong == 0)
    }

    pub(crate) fn print(&self) {
        let environment = &self.environment;
        println!(
            "{} on Linux {}, {} × {}",
            self.scenario, environment.kernel, environment.cores, environment.cpu
        );
        for run in &self.runs {
            println!("{}", run.table());
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

impl Run {
    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED);
        table.set_header([self.contestant.as_str(), ""]);
        let latency = &self.latency_ns;
        let rows = [
            ("children", self.children.to_string()),
            ("exits", self.exits.to_string()),
            ("lost", self.lost.to_string()),
            ("duplicates", self.duplicates.to_string()),
            ("wrong pid or status", self.wrong.to_string()),
            ("latency p50", micros(latency.p50)),
            ("latency p90", micros(latency.p90)),
            ("latency p99", micros(latency.p99)),
            ("latency p99.9", micros(latency.p99_9)),
            ("latency max", micros(latency.max)),
            ("drain time", millis(self.drain_ns)),
            ("CPU per exit", micros(self.cpu_ns_per_exit)),
            ("descriptors held", self.fds_held.to_string()),
        ];
        for (name, value) in rows {
            table.add_row([name.to_owned(), value]);
        }
        if let Some(column) = table.column_mut(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }
}

fn micros(ns: u64) -> String {
    format!("{:.1} µs", ns as f64 / 1e3)
}

fn millis(ns: u64) -> String {
    format!("{:.1} ms", ns as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> Run {
        Run {
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
            |run: &mut Run| run.lost = 1,
            |run: &mut Run| run.duplicates = 1,
            |run: &mut Run| run.wrong = 1,
        ] {
            let mut spoilt = run();
            spoil(&mut spoilt);
            assert!(!Report::new("test", vec![run(), spoilt]).is_clean());
        }
    }
}
