//! The report as tables for a terminal.

use std::fmt::{self, Write};

use comfy_table::{CellAlignment, Table, presets};

use crate::report::explanation;
use crate::report::results::Report;
use crate::report::summary::Line;
use crate::types::metric::Metric;
use crate::types::run::Run;

/// The columns of a comparison. The headline comes first if it is none of them. Metrics that were not
/// measured are left out.
const COLUMNS: [Metric; 15] = [
    Metric::Rate,
    Metric::Drain,
    Metric::SpawnCost,
    Metric::SpawnCall,
    Metric::WatchP50,
    Metric::WatchP99,
    Metric::WatchMax,
    Metric::PlanP50,
    Metric::PlanP99,
    Metric::P50,
    Metric::P99,
    Metric::Cpu,
    Metric::Switches,
    Metric::Fds,
    Metric::Bytes,
];

pub(crate) fn text(report: &Report) -> Result<String, fmt::Error> {
    let mut text = String::new();
    let environment = &report.environment;
    writeln!(
        text,
        "{} on Linux {}, {} × {}",
        report.scenario, environment.kernel, environment.cores, environment.cpu
    )?;
    if let ([run], [_]) = (report.runs.as_slice(), report.scenarios.as_slice()) {
        writeln!(text, "{}", single(run))?;
    } else if !report.summary.is_empty() {
        writeln!(text, "{}", comparison(report))?;
        writeln!(text, "{}", explanation::text(report))?;
    }
    for absent in &report.absent {
        let live = absent
            .live
            .map_or_else(String::new, |live| format!(", {live} live"));
        let verb = if absent.failed {
            "FAILED"
        } else {
            "not measured"
        };
        writeln!(text, "{}{live}: {verb}: {}", absent.title, absent.why)?;
    }
    for warning in &report.warnings {
        writeln!(text, "warning: {warning}")?;
    }
    for run in &report.runs {
        for warning in &run.warnings {
            writeln!(
                text,
                "warning: {}, round {}: {warning}",
                run.title, run.round
            )?;
        }
    }
    if let Some(ratio) = report.spawn_cost_ratio {
        writeln!(text, "spawn_cost_ratio {ratio:.3}")?;
    }
    Ok(text)
}

/// One run, a metric per row.
fn single(run: &Run) -> Table {
    let mut rows = vec![
        ("children".to_owned(), run.children.to_string()),
        ("exits".into(), run.exits.to_string()),
        ("lost".into(), run.lost.to_string()),
        ("duplicates".into(), run.duplicates.to_string()),
        ("wrong pid or status".into(), run.wrong.to_string()),
    ];
    if let Some(live) = run.live {
        rows.insert(1, ("other live children".into(), live.to_string()));
    }
    if let Some(size) = run.resident_bytes {
        rows.push(("resident memory".into(), size.to_string()));
    }
    let metrics = [
        Metric::PlanP50,
        Metric::PlanP99,
        Metric::PlanP99_9,
        Metric::P50,
        Metric::P90,
        Metric::P99,
        Metric::P99_9,
        Metric::Max,
        Metric::WatchP50,
        Metric::WatchP99,
        Metric::WatchMax,
        Metric::SpawnCall,
        Metric::Drain,
        Metric::Rate,
        Metric::Cpu,
        Metric::Switches,
        Metric::Enters,
        Metric::Fds,
        Metric::Bytes,
        Metric::End,
    ];
    let shown = |metric: Metric| Some((metric.title().to_owned(), metric.show(metric.of(run)?)));
    rows.extend(metrics.into_iter().filter_map(shown));
    for stage in &run.stages {
        if let (Some(p50), p99) = (stage.latency_ns.p50, stage.latency_ns.p99) {
            let show = |ns: u64| Metric::P50.show(ns as f64);
            let p99 = p99.map_or_else(String::new, |p99| format!(", p99 {}", show(p99)));
            rows.push((
                format!("  {}", stage.stage),
                format!("p50 {}{p99}", show(p50)),
            ));
        }
    }
    if let Some(soak) = &run.soak {
        rows.push(("seconds".into(), format!("{:.0}", soak.seconds)));
        for (case, count) in &soak.cases {
            rows.push((format!("  {case}"), count.to_string()));
        }
        if !soak.attributes.is_empty() {
            rows.push(("commands with".into(), String::new()));
        }
        for (attribute, count) in &soak.attributes {
            rows.push((format!("  {attribute}"), count.to_string()));
        }
        rows.push(("orphans reaped".into(), soak.orphans.to_string()));
        rows.push(("left at the end".into(), soak.left.count().to_string()));
        if let (Some(first), Some(last)) = (soak.samples.first(), soak.samples.last()) {
            let memory = |bytes: u64| Metric::Bytes.show(bytes as f64);
            rows.push((
                "memory, first and last sample".into(),
                format!("{}, {}", memory(first.bytes), memory(last.bytes)),
            ));
            rows.push((
                "descriptors, first and last".into(),
                format!("{}, {}", first.descriptors, last.descriptors),
            ));
        }
    }
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header([run.title.as_str(), ""]);
    for (name, value) in &rows {
        table.add_row([name, value]);
    }
    align(&mut table, 1..2);
    table
}

/// A comparison, a contestant per row.
fn comparison(report: &Report) -> Table {
    let known = |metric: &Metric| {
        report
            .summary
            .iter()
            .any(|line| line.metrics.contains_key(metric))
    };
    let headline = Some(report.headline).filter(|metric| !COLUMNS.contains(metric));
    let columns = headline.into_iter().chain(COLUMNS).filter(known);
    let columns: Vec<_> = columns.collect();
    let sizes = report.scenarios.len() > 1;
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    let mut head = vec!["contestant".to_owned()];
    head.extend(sizes.then(|| "live".to_owned()));
    for &metric in &columns {
        head.push(metric.title().to_owned());
        head.extend(has_ratios(report, metric).then(|| ratio_title(report)));
    }
    head.push("lost, twice, wrong".into());
    let width = head.len();
    table.set_header(head);
    for line in &report.summary {
        let mut row = vec![line.title.clone()];
        row.extend(sizes.then(|| line.live.unwrap_or(0).to_string()));
        for &metric in &columns {
            row.push(cell(line, metric, metric == report.headline));
            row.extend(has_ratios(report, metric).then(|| ratio(line, metric)));
        }
        let errors = [Metric::Lost, Metric::Duplicates, Metric::Wrong];
        let worst = errors.map(|metric| line.metrics.get(&metric).map_or(0.0, |spread| spread.max));
        row.push(worst.map(|count| count.to_string()).join(", "));
        table.add_row(row);
    }
    align(&mut table, 1..width);
    table
}

/// Whether a metric has a column with its ratios. The others have theirs in the saved results.
fn has_ratios(report: &Report, metric: Metric) -> bool {
    report.summary.len() > 1 && (metric == report.headline || metric == Metric::Cpu)
}

fn ratio_title(report: &Report) -> String {
    let of_line = |line: &Line| line.metrics.get(&report.headline)?.ratio?.interval;
    match report.summary.iter().any(|line| of_line(line).is_some()) {
        true => "× (95 % interval)".into(),
        false => "×".into(),
    }
}

fn cell(line: &Line, metric: Metric, headline: bool) -> String {
    let Some(spread) = line.metrics.get(&metric) else {
        return "–".into();
    };
    let mut cell = metric.show(spread.median);
    if headline && line.rounds > 1 {
        cell += &format!(
            " ({} to {})",
            metric.show(spread.min),
            metric.show(spread.max)
        );
    }
    cell
}

fn ratio(line: &Line, metric: Metric) -> String {
    let ratio = line.metrics.get(&metric).and_then(|spread| spread.ratio);
    ratio.map_or_else(|| "–".to_owned(), |ratio| ratio.show())
}

fn align(table: &mut Table, columns: std::ops::Range<usize>) {
    for column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::environment::Environment;
    use crate::types::kind::Kind;
    use crate::types::latency::Latencies;

    #[test]
    fn a_comparison_starts_with_the_headline_and_its_ratio() {
        let kinds = [Kind::Exitring, Kind::ExitringInline];
        let mut report = Report::new("abandon", &[], &kinds, 1, Environment::default());
        report.headline = Metric::Max;
        for (contestant, ns) in kinds.into_iter().zip([1_000_000, 2_000_000]) {
            let mut run = Run {
                contestant,
                round: 1,
                title: contestant.name(),
                ..Run::default()
            };
            let latencies = Latencies::of([ns]).expect("in range");
            run.set_latencies(latencies).expect("it fits");
            report.add(run);
        }
        report.summarize();
        let text = text(&report).expect("it is formatted");
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains("| contestant | latency max | × |"), "{text}");
        assert!(
            text.contains("| exitring-inline | 2.0 ms | ×2.000 |"),
            "{text}"
        );
    }
}
