//! The page: a section per report, with its command line, environment, tables and charts.

use anyhow::Result;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{figures, tables};
use crate::report::results::Report;
use crate::types::environment::Environment;

const CSS: &str = include_str!("page.css");
/// More warnings than this are folded.
const MANY_WARNINGS: usize = 8;

pub(super) fn page(reports: &[Report]) -> Result<Markup> {
    let sections = reports.iter().map(section).collect::<Result<Vec<_>>>()?;
    Ok(html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "exitring: measurements" }
                style { (PreEscaped(CSS)) }
            }
            body {
                header {
                    h1 { "exitring: measurements" }
                    @if reports.len() > 1 {
                        nav { ol {
                            @for (report, number) in reports.iter().zip(1..) {
                                li { a href=(format!("#report-{number}")) { (report.scenario) } }
                            }
                        } }
                    }
                }
                @for (section, number) in sections.iter().zip(1..) {
                    section id=(format!("report-{number}")) { (section) }
                }
            }
        }
    })
}

fn section(report: &Report) -> Result<Markup> {
    let figures = figures::figures(report)?;
    Ok(html! {
        h2 { (report.scenario) }
        p.command { code { "loadgen " (report.command) } }
        (environment(&report.environment))
        (warnings(report))
        (absent(report))
        (tables::summary(report))
        (figures)
        (tables::stages(report))
    })
}

fn environment(environment: &Environment) -> Markup {
    let number = |limit: Option<u64>| {
        limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string())
    };
    let pid_max = environment
        .pid_max
        .map_or_else(|| "unknown".to_owned(), |max| max.to_string());
    let limits = format!(
        "descriptors {} (hard {}), processes {}, pid_max {pid_max}",
        number(environment.nofile),
        number(environment.nofile_hard),
        number(environment.nproc),
    );
    let versions = environment
        .versions
        .iter()
        .map(|(name, version)| format!("{name} {version}"));
    let entries = [
        ("kernel", format!("Linux {}", environment.kernel)),
        ("CPU", environment.cpu.clone()),
        ("cores", environment.cores.to_string()),
        (
            "memory",
            format!(
                "{:.1} GiB",
                environment.memory_bytes as f64 / f64::from(1 << 30)
            ),
        ),
        ("backend", environment.backend.clone()),
        ("build", environment.build.clone()),
        ("limits", limits),
        ("versions", versions.collect::<Vec<_>>().join(", ")),
    ];
    html! {
        dl { @for (name, value) in entries { div { dt { (name) } dd { (value) } } } }
    }
}

fn warnings(report: &Report) -> Markup {
    let interrupted = report
        .interrupted
        .then(|| "interrupted: later runs are missing".to_owned());
    let of_runs = report.runs.iter().flat_map(|run| {
        let live = run
            .live
            .map_or_else(String::new, |live| format!(", {live} live"));
        let name = format!("{}{live}, round {}", run.title, run.round);
        run.warnings
            .iter()
            .map(move |warning| format!("{name}: {warning}"))
    });
    let warnings = interrupted
        .into_iter()
        .chain(report.warnings.iter().map(ToString::to_string));
    let warnings: Vec<String> = warnings.chain(of_runs).collect();
    let list = html! { ul { @for warning in &warnings { li { (warning) } } } };
    html! {
        @if warnings.len() > MANY_WARNINGS {
            details.warnings { summary { (warnings.len()) " warnings" } (list) }
        } @else if !warnings.is_empty() {
            div.warnings { (list) }
        }
    }
}

fn absent(report: &Report) -> Markup {
    html! {
        @if !report.absent.is_empty() {
            div.absent { ul {
                @for absent in &report.absent {
                    li {
                        b { (absent.title) }
                        @if let Some(live) = absent.live { ", " (live) " live" }
                        ": "
                        @if absent.failed { span.bad { "failed" } } @else { "not measured" }
                        ": " (absent.why)
                    }
                }
            } }
        }
    }
}
