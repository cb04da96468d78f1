//! Selects the charts of a report.

use std::collections::HashSet;

use anyhow::{Context, Result};
use maud::{Markup, PreEscaped, html};

use super::axis::Axis;
use super::bars::{self, Bar};
use super::curves::{Curve, Plot, max_nines, percentile_curve};
use super::style::{Subject, legend_sample};
use crate::report::results::Report;
use crate::report::summary::Line;
use crate::types::latency::Latencies;
use crate::types::metric::Metric;
use crate::types::run::Run;

pub(super) fn figures(report: &Report) -> Result<Markup> {
    let sizes: HashSet<_> = report.runs.iter().map(|run| run.live).collect();
    if report.scenarios.len() > 1 {
        let largest = sizes.into_iter().max().flatten();
        let scale = scale_curves(report)?;
        let percentiles = percentiles(report, largest)?;
        return Ok(html! { (scale) (percentiles) });
    }
    let percentiles = percentiles(report, None)?;
    let bars = [Metric::Cpu, Metric::Fds].map(|metric| bar_chart(report, metric));
    Ok(html! {
        (percentiles)
        div.grid { @for chart in bars { (chart?) } }
    })
}

/// The title of a run's main histogram.
fn title_of(run: &Run) -> &'static str {
    if run.histogram_of_watch.is_some() {
        "Duration of a registration"
    } else if run.histogram_from_plan.is_some() {
        "Latency from the planned time to the callback"
    } else if run.program.is_some() || run.spawn_cost.is_some() {
        "Latency from the call that starts the child to the known status"
    } else {
        "Latency from exit to known status"
    }
}

/// The merged latencies of all rounds of each contestant, of one size or of all.
fn merged<'a>(report: &'a Report, live: Option<u32>) -> Result<Vec<(Subject, &'a str, Latencies)>> {
    let mut merged: Vec<(Subject, &'a str, Latencies)> = Vec::new();
    for run in report
        .runs
        .iter()
        .filter(|run| live.is_none() || run.live == live)
    {
        let latencies = Latencies::decode(run.main_histogram())
            .with_context(|| format!("the histogram of {}, round {}", run.title, run.round))?;
        let subject = Subject::of_run(run);
        let index = merged.iter().position(|(other, ..)| *other == subject);
        let index = index.unwrap_or(merged.len());
        if index == merged.len() {
            // The runs are merged into an empty histogram.
            merged.push((subject, &run.title, Latencies::new()?));
        }
        merged[index].2.add(&latencies)?;
    }
    Ok(merged)
}

fn percentiles(report: &Report, live: Option<u32>) -> Result<Markup> {
    let Some(title) = report.runs.first().map(title_of) else {
        return Ok(html! {});
    };
    let merged = merged(report, live)?;
    let curve = |(subject, _, latencies): &(Subject, _, _)| percentile_curve(*subject, latencies);
    let curves: Vec<Curve> = merged.iter().filter_map(curve).collect();
    if curves.is_empty() {
        return Ok(html! {});
    }
    let drawn = |subject| curves.iter().any(|curve| curve.subject == subject);
    let titles = merged
        .iter()
        .filter(|(subject, ..)| drawn(*subject))
        .map(|&(subject, title, _)| (subject, title));
    let legend = legend(titles)?;
    let ys: Vec<f64> = points(&curves).map(|(_, y)| y).collect();
    let plot = Plot {
        size: (860, 440),
        x: Axis::of_quantiles(max_nines(&curves)),
        x_title: "percentile",
        y: Axis::log(&ys, Metric::P50),
        y_title: title.into(),
        curves,
    };
    let svg = plot.draw()?;
    Ok(html! {
        figure.wide {
            figcaption {
                b { (title) ", by percentile" @if let Some(live) = live { ", with " (live) " live children" } }
                ". All rounds are merged. A curve ends where fewer than ten samples lie beyond it."
            }
            (PreEscaped(svg))
            (legend)
        }
    })
}

fn points(curves: &[Curve]) -> impl Iterator<Item = (f64, f64)> {
    curves.iter().flat_map(|curve| curve.points.iter().copied())
}

fn scale_curves(report: &Report) -> Result<Markup> {
    let metrics = [
        Metric::PlanP50,
        Metric::PlanP99,
        Metric::Cpu,
        Metric::Bytes,
        Metric::Fds,
    ];
    let charts = metrics
        .into_iter()
        .filter_map(|metric| scale_chart(report, metric).transpose());
    let charts = charts.collect::<Result<Vec<_>>>()?;
    if charts.is_empty() {
        return Ok(html! {});
    }
    let mut titles: Vec<(Subject, &str)> = Vec::new();
    for line in &report.summary {
        let subject = Subject::of_line(line);
        if !titles.iter().any(|(other, _)| *other == subject) {
            titles.push((subject, &line.title));
        }
    }
    let legend = legend(titles)?;
    Ok(html! {
        div.legend-above { (legend) }
        div.grid { @for chart in charts { (chart) } }
    })
}

/// A metric over the number of live children.
fn scale_chart(report: &Report, metric: Metric) -> Result<Option<Markup>> {
    let mut curves: Vec<Curve> = Vec::new();
    for line in &report.summary {
        let Some((live, value)) = line.live.zip(median(line, metric)) else {
            continue;
        };
        let point = (f64::from(live), value);
        let subject = Subject::of_line(line);
        match curves.iter_mut().find(|curve| curve.subject == subject) {
            Some(curve) => curve.points.push(point),
            None => curves.push(Curve {
                subject,
                points: vec![point],
                marks: Vec::new(),
            }),
        }
    }
    if curves.is_empty() {
        return Ok(None);
    }
    for curve in &mut curves {
        curve.marks.clone_from(&curve.points);
    }
    let (xs, ys): (Vec<f64>, Vec<f64>) = points(&curves).unzip();
    let plot = Plot {
        size: (535, 320),
        x: Axis::of_sizes(&xs),
        x_title: "live children",
        y: Axis::log(&ys, metric),
        y_title: heading(metric),
        curves,
    };
    let svg = plot.draw()?;
    Ok(Some(html! {
        figure {
            figcaption { b { (heading(metric)) } }
            (PreEscaped(svg))
        }
    }))
}

fn bar_chart(report: &Report, metric: Metric) -> Result<Markup> {
    let values = report
        .summary
        .iter()
        .filter_map(|line| Some((line, median(line, metric)?)));
    let bars = values.map(|(line, value)| Bar {
        subject: Subject::of_line(line),
        title: &line.title,
        value,
    });
    let bars: Vec<_> = bars.collect();
    if bars.is_empty() {
        return Ok(html! {});
    }
    let svg = bars::draw(metric, &bars)?;
    Ok(html! {
        figure {
            figcaption {
                b { (heading(metric)) }
                @if bars::is_logarithmic(&bars) { ", on a logarithmic scale" }
            }
            (PreEscaped(svg))
        }
    })
}

fn median(line: &Line, metric: Metric) -> Option<f64> {
    line.metrics.get(&metric).map(|spread| spread.median)
}

fn heading(metric: Metric) -> String {
    match metric {
        Metric::PlanP50 => "Latency from plan, p50".into(),
        Metric::PlanP99 => "Latency from plan, p99".into(),
        _ => {
            let mut letters = metric.title().chars();
            let first = letters.next().map(|letter| letter.to_ascii_uppercase());
            first.into_iter().chain(letters).collect()
        }
    }
}

fn legend<'a>(titles: impl IntoIterator<Item = (Subject, &'a str)>) -> Result<Markup> {
    let entries = titles
        .into_iter()
        .map(|(subject, title)| Ok((legend_sample(subject)?, title)));
    let entries = entries.collect::<Result<Vec<_>>>()?;
    Ok(html! {
        ul.legend {
            @for (sample, title) in entries {
                li { (PreEscaped(sample)) span { (title) } }
            }
        }
    })
}
