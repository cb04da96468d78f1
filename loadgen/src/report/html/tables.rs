//! The tables of a report: the comparison of the contestants, and the stages of an exit in
//! exitring.

use clap::ValueEnum;
use maud::{Markup, html};

use crate::report::explanation;
use crate::report::ratio::{Ratio, Verdict};
use crate::report::results::Report;
use crate::report::summary::{Line, median};
use crate::types::metric::Metric;

const ERRORS: [Metric; 3] = [Metric::Lost, Metric::Duplicates, Metric::Wrong];

/// The comparison, a contestant per row.
pub(super) fn summary(report: &Report) -> Markup {
    let known = |metric: &Metric| {
        report
            .summary
            .iter()
            .any(|line| line.metrics.contains_key(metric))
    };
    let others = Metric::value_variants()
        .iter()
        .copied()
        .filter(|&metric| metric != report.headline && !ERRORS.contains(&metric));
    let columns: Vec<_> = std::iter::once(report.headline)
        .chain(others)
        .filter(known)
        .collect();
    let sizes = report.scenarios.len() > 1;
    if report.summary.is_empty() {
        return html! { p { "Nothing was measured." } };
    }
    html! {
        div.scroll { table {
            thead { tr {
                th.name { "contestant" }
                @if sizes { th { "live" } }
                @for metric in &columns { th { (metric.title()) } }
                th { "lost, twice, wrong" }
            } }
            tbody {
                @for (index, line) in report.summary.iter().enumerate() {
                    tr.first[starts_group(&report.summary, index)] {
                        th.name scope="row" { (line.title) }
                        @if sizes { td { @if let Some(live) = line.live { (live) } } }
                        @for &metric in &columns { (cell(report, line, metric)) }
                        (errors(line))
                    }
                }
            }
        } }
        p.note {
            (explanation::text(report))
            @if report.summary.len() > 1 {
                " Bold: the best value" @if sizes { " of each size" } " among contestants that delivered every exit exactly once and with the right status."
            }
        }
    }
}

/// Whether the rows of another number of live children start here.
fn starts_group(lines: &[Line], index: usize) -> bool {
    index > 0 && lines[index - 1].live != lines[index].live
}

fn cell(report: &Report, line: &Line, metric: Metric) -> Markup {
    let Some(spread) = line.metrics.get(&metric) else {
        return html! { td.none { "–" } };
    };
    let headline = metric == report.headline;
    let shown = metric.show(spread.median);
    let best = is_clean(line) && best(report, line.live, metric).is_some_and(|best| best == shown);
    let range = (headline && line.rounds > 1)
        .then(|| format!("{} – {}", metric.show(spread.min), metric.show(spread.max)));
    let with_ratio = report.summary.len() > 1 && (headline || metric == Metric::Cpu);
    html! {
        td {
            @if best { b { (shown) } } @else { (shown) }
            @if let Some(range) = range { small { (range) } }
            @if let Some(ratio) = spread.ratio.filter(|_| with_ratio) { (ratio_of(ratio)) }
        }
    }
}

/// The ratio to the reference, with its interval and verdict in the next lines.
fn ratio_of(ratio: Ratio) -> Markup {
    let class = match ratio.verdict {
        Some(Verdict::Faster | Verdict::Less) => "better",
        Some(Verdict::Slower | Verdict::More) => "worse",
        Some(Verdict::NoDifferenceShown) | None => "same",
    };
    html! {
        small {
            (ratio.show_median())
            @if let Some(interval) = ratio.show_interval() { " " (interval) }
        }
        @if let Some(verdict) = ratio.verdict { small.(class) { (verdict) } }
    }
}

/// The best value of a size, as it is shown; `None` if all are equal. Contestants that lost exits
/// do not count, because a lost exit costs nothing.
fn best(report: &Report, live: Option<u32>, metric: Metric) -> Option<String> {
    let lines = report
        .summary
        .iter()
        .filter(|line| line.live == live && is_clean(line));
    let medians: Vec<f64> = lines
        .filter_map(|line| Some(line.metrics.get(&metric)?.median))
        .collect();
    let pick = if metric.more_is_better() {
        f64::max
    } else {
        f64::min
    };
    let best = metric.show(medians.iter().copied().reduce(pick)?);
    medians
        .iter()
        .any(|&median| metric.show(median) != best)
        .then_some(best)
}

fn is_clean(line: &Line) -> bool {
    ERRORS.iter().all(|metric| worst(line, *metric) == 0.0)
}

/// The highest value of all rounds.
fn worst(line: &Line, metric: Metric) -> f64 {
    line.metrics.get(&metric).map_or(0.0, |spread| spread.max)
}

fn errors(line: &Line) -> Markup {
    html! {
        td {
            @for (index, metric) in ERRORS.into_iter().enumerate() {
                @let count = worst(line, metric);
                @if index > 0 { ", " }
                @if count > 0.0 { span.bad { (metric.show(count)) } } @else { "0" }
            }
        }
    }
}

/// The duration of each stage, medians over the rounds.
pub(super) fn stages(report: &Report) -> Markup {
    let largest = report.runs.iter().map(|run| run.live).max().flatten();
    let lines = report.summary.iter().filter(|line| line.live == largest);
    let tables: Vec<_> = lines
        .map(|line| (line, rows(report, line)))
        .filter(|(_, rows)| !rows.is_empty())
        .collect();
    if tables.is_empty() {
        return html! {};
    }
    html! {
        h3 {
            "Stages of an exit in exitring"
            @if report.scenarios.len() > 1 {
                @if let Some(live) = largest { ", with " (live) " live children" }
            }
        }
        div.scroll { table.stages {
            thead { tr { th.name { "contestant" } th.name { "stage" } th { "p50" } th { "p99" } } }
            @for (line, rows) in tables {
                tbody {
                    @for (index, (stage, p50, p99)) in rows.iter().enumerate() {
                        tr {
                            @if index == 0 { th.name scope="rowgroup" rowspan=(rows.len()) { (line.title) } }
                            td.name { (stage) }
                            td { (p50) }
                            td { (p99) }
                        }
                    }
                }
            }
        } }
    }
}

fn rows<'a>(report: &'a Report, line: &Line) -> Vec<(&'a str, String, String)> {
    let of_line = |run: &&crate::types::run::Run| {
        (run.contestant, &run.build, run.live) == (line.contestant, &line.build, line.live)
    };
    let runs: Vec<_> = report.runs.iter().filter(of_line).collect();
    let mut names: Vec<&str> = Vec::new();
    for stage in runs.iter().flat_map(|run| &run.stages) {
        if !names.contains(&stage.stage.as_str()) {
            names.push(&stage.stage);
        }
    }
    let rows = names.into_iter().map(|name| {
        let stages = runs
            .iter()
            .flat_map(|run| &run.stages)
            .filter(|stage| stage.stage == name);
        let latencies: Vec<_> = stages.map(|stage| &stage.latency_ns).collect();
        let show = |values: Vec<u64>| {
            let values = values.into_iter().map(|ns| ns as f64).collect();
            median(values).map_or_else(|| "–".to_owned(), |ns| Metric::P50.show(ns))
        };
        let p50 = show(latencies.iter().filter_map(|ns| ns.p50).collect());
        let p99 = show(latencies.iter().filter_map(|ns| ns.p99).collect());
        (name, p50, p99)
    });
    rows.collect()
}
