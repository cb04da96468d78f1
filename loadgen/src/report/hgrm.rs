//! Writes latencies in HdrHistogram's text format, which its plotters read.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::report::results::Report;
use crate::types::latency::Latencies;

/// Steps per halving of the distance to 100 %.
const TICKS: u32 = 5;

/// Writes a file per contestant, build and size. A file merges all rounds; its values are microseconds.
pub(crate) fn write(report: &Report, directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("creating {}", directory.display()))?;
    let mut merged: BTreeMap<String, Latencies> = BTreeMap::new();
    for run in &report.runs {
        let live = run.live.map_or_else(String::new, |live| format!("-{live}"));
        let build = run
            .build
            .as_ref()
            .map_or_else(String::new, |build| format!("-{}", build.replace(' ', "-")));
        let name = run.contestant.name();
        let name = format!("{}-{name}{build}{live}.hgrm", report.scenario);
        let latencies = Latencies::decode(run.main_histogram())?;
        match merged.entry(name) {
            std::collections::btree_map::Entry::Vacant(entry) => drop(entry.insert(latencies)),
            std::collections::btree_map::Entry::Occupied(mut entry) => {
                entry.get_mut().add(&latencies)?
            }
        }
    }
    for (name, latencies) in merged {
        let path = directory.join(name);
        fs::write(&path, text(&latencies))
            .with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

fn text(latencies: &Latencies) -> String {
    let histogram = latencies.histogram();
    let mut text = format!(
        "{:>12} {:>14} {:>10} {:>14}\n\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    );
    let mut below = 0;
    for step in histogram.iter_quantiles(TICKS) {
        below += step.count_since_last_iteration();
        let (value, quantile) = (
            step.value_iterated_to() as f64 / 1e3,
            step.quantile_iterated_to(),
        );
        let inverse = match quantile < 1.0 {
            true => format!("{:14.2}", 1.0 / (1.0 - quantile)),
            false => String::new(),
        };
        let _ = writeln!(text, "{value:12.3} {quantile:14.12} {below:10} {inverse}");
    }
    let (mean, deviation) = (histogram.mean() / 1e3, histogram.stdev() / 1e3);
    let (max, count) = (histogram.max() as f64 / 1e3, histogram.len());
    let _ = writeln!(
        text,
        "#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]"
    );
    let _ = writeln!(text, "#[Max     = {max:12.3}, Total count    = {count:12}]");
    let (buckets, subs) = (histogram.distinct_values(), histogram.sigfig());
    let _ = writeln!(
        text,
        "#[Buckets = {buckets:12}, SubBuckets     = {subs:12}]"
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_is_counted_and_the_last_line_is_the_maximum() {
        let latencies = Latencies::of((1..=1000).map(|n| n * 1000)).expect("in range");
        let text = text(&latencies);
        let rows = text
            .lines()
            .skip(2)
            .take_while(|line| !line.starts_with('#'));
        let rows: Vec<Vec<f64>> = rows
            .map(|line| {
                line.split_whitespace()
                    .map(|word| word.parse().expect("a number"))
                    .collect()
            })
            .collect();
        assert!(rows.iter().map(|row| row[0]).is_sorted());
        assert_eq!(rows.last().map(|row| row[2]), Some(1000.0));
        assert!(rows.last().is_some_and(|row| (row[0] - 1000.0).abs() < 1.0));
        let at = |quantile: f64| rows.iter().find(|row| row[1] >= quantile).map(|row| row[0]);
        assert!(
            at(0.5).is_some_and(|value| (value - 500.0).abs() < 1.0),
            "{text}"
        );
        assert!(text.contains("Total count    =         1000"), "{text}");
    }
}
