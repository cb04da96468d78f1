//! The page: totals, timeline, distributions, failed jobs, and the jobs that took most.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde::Serialize;

use super::collector::{Collector, EndKind, FailedJob, RunEnd, ShownJob, micros};
use super::distribution::{self, MEMORY, TIME};
use super::format;
use super::sample::ShownAttempt;

const CSS: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// The output of more failed jobs than this is folded.
const OPEN_MAX: usize = 5;

/// The whole page, as text.
pub(super) fn page(run: &Collector, end: RunEnd) -> String {
    let elapsed = run.elapsed();
    let title = title(run);
    // Nothing is loaded, and no script but that of the page is executed, whatever a job has written.
    let nonce = RandomState::new().build_hasher().finish();
    let policy = format!(
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'nonce-{nonce:x}'; base-uri 'none'; form-action 'none'"
    );
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(CSS)) }
            }
            body {
                header {
                    h1 { (title) }
                    p { "started " (format!("{:.0}", run.started_at)) ", exit status " (end.exit_code) }
                }
                (totals(run, end, elapsed))
                (timeline(run))
                (distributions(run))
                (failed(run))
                (most(run))
                footer { "exitring " (env!("CARGO_PKG_VERSION")) }
                script type="application/json" id="data" { (PreEscaped(data(run, elapsed))) }
                script nonce=(format!("{nonce:x}")) { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string()
}

fn title(run: &Collector) -> String {
    let counts = &run.counts;
    let jobs = counts.succeeded + counts.failed + counts.interrupted;
    let noun = if jobs == 1 { "job" } else { "jobs" };
    let failed = match counts.failed {
        0 => String::new(),
        failed => format!(", {} failed", format::count(failed)),
    };
    format!("exitring run: {} {noun}{failed}", format::count(jobs))
}

fn totals(run: &Collector, end: RunEnd, elapsed: Duration) -> Markup {
    let counts = &run.counts;
    let some = |count: u64, name: &'static str, class: &'static str| {
        (count > 0).then(|| (name, format::count(count), class))
    };
    let parallel = run.busy.as_secs_f64() / elapsed.as_secs_f64().max(1e-6);
    let rate = (counts.succeeded + counts.failed) as f64 / elapsed.as_secs_f64().max(1e-6);
    let rate = match rate {
        10.0.. => format::count(rate.round() as u64),
        _ => format!("{rate:.2}"),
    };
    let always = |name, value| Some((name, value, ""));
    let memory = run.memory_bytes.max();
    let totals = [
        Some(("succeeded", format::count(counts.succeeded), "ok")),
        Some((
            "failed",
            format::count(counts.failed),
            if counts.failed > 0 { "failed" } else { "" },
        )),
        some(counts.timed_out, "of them timed out", "late"),
        some(counts.not_started, "of them not started", "failed"),
        some(counts.interrupted, "interrupted", "interrupted"),
        some(counts.retries, "failed attempts run again", "again"),
        some(counts.flaky, "flaky", "flaky"),
        some(counts.slow, "slow", "slow"),
        some(end.done_before, "done by an earlier run", ""),
        some(end.failed_before, "of them failed", "failed"),
        always("run time", format::duration(elapsed)),
        always("jobs per second", rate),
        always("jobs at a time on average", format!("{parallel:.1}")),
        always("processor time", format::duration(run.cpu)),
        (memory > 0).then(|| ("most memory of a job", format::bytes(memory), "")),
    ];
    html! {
        dl.totals {
            @for (name, value, class) in totals.into_iter().flatten() {
                div class=(class) { dt { (name) } dd { (value) } }
            }
        }
    }
}

fn timeline(run: &Collector) -> Markup {
    let (shown, all) = (run.timeline.len() as u64, run.timeline.added());
    let legend = [
        ("ok", "succeeded"),
        ("failed", "failed"),
        ("late", "timed out"),
        ("again", "failed, run again"),
        ("flaky", "flaky: succeeded after a failure"),
        ("slow", "slow (a line below the bar)"),
        ("interrupted", "interrupted"),
    ];
    html! {
        section {
            h2 { "Timeline" }
            @if all == 0 {
                p.note { "No job was run." }
            } @else {
                div.bar {
                    ul.legend { @for (class, name) in legend { li { i class=(class) {} (name) } } }
                    div.buttons {
                        button type="button" id="in" { "Zoom in" }
                        button type="button" id="out" { "Zoom out" }
                        button type="button" id="all" { "All" }
                    }
                }
                canvas id="timeline" role="img" aria-label="A row for each slot, a bar for each attempt at a job" {}
                noscript { p.note { "The timeline needs JavaScript. The rest of the page does not." } }
                p.note {
                    "A row is a slot, a bar an attempt at a job. Drag across the bars to zoom."
                    @if shown < all {
                        " The timeline shows " (format::count(shown)) " of " (format::count(all))
                        " attempts: failed ones first, and a sample of the others, in which longer ones are more likely to be."
                    }
                }
            }
            div id="tip" hidden {}
        }
    }
}

fn distributions(run: &Collector) -> Markup {
    let charts = [
        distribution::chart("Run time of a job", &run.wall_micros, &TIME),
        distribution::chart("Processor time of a job", &run.cpu_micros, &TIME),
        distribution::chart(
            "Memory of a job (maximal resident set)",
            &run.memory_bytes,
            &MEMORY,
        ),
    ];
    html! {
        @if charts.iter().any(Option::is_some) {
            section {
                h2 { "Distributions" }
                div.grid { @for chart in charts.iter().flatten() { (chart) } }
                p.note {
                    "The number of jobs by their last attempt, on a logarithmic scale. Interrupted jobs are left out. "
                    "The memory of a job is never less than that of exitring, which a process has until its exec."
                }
            }
        }
    }
}

fn failed(run: &Collector) -> Markup {
    let (shown, all) = (run.failed.len(), run.counts.failed);
    let mut jobs: Vec<_> = run.failed.iter().collect();
    jobs.sort_unstable_by_key(|failed| failed.shown.job);
    html! {
        @if all > 0 {
            section {
                h2 { "Failed jobs" }
                @for (index, failed) in jobs.into_iter().enumerate() {
                    (failed_job(failed, index < OPEN_MAX))
                }
                @if (shown as u64) < all {
                    p.note {
                        "These are the first " (format::count(shown as u64)) " of " (format::count(all))
                        " jobs that failed. --joblog lists all of them."
                    }
                }
            }
        }
    }
}

fn failed_job(failed: &FailedJob, open: bool) -> Markup {
    let FailedJob { shown, output } = failed;
    let ran = shown.cpu.is_some();
    html! {
        details.failure open[open] data-job=(shown.job) {
            summary {
                span.head {
                    b { "job " (shown.job) }
                    " " span class=(class(shown.kind)) { (shown.result) }
                    @if shown.attempts > 1 { ", " (shown.attempts) " attempts" }
                    @if shown.slow { ", slow" }
                    @if let Some(repeat) = shown.repeat { ", repeat " (repeat) }
                    @if ran { ", " (format::duration(shown.wall)) }
                }
                code { (shown.command) }
            }
            @match output {
                Some(output) if output.len() > 0 => {
                    @if output.omitted() > 0 { p.note { "The end of its output:" } }
                    pre { (format::output(output.bytes())) }
                }
                Some(_) => p.note { "It wrote nothing." },
                None if ran => p.note { "Its output did not pass through exitring." },
                None => {}
            }
        }
    }
}

fn most(run: &Collector) -> Markup {
    let jobs = run.most();
    let all = run.wall_micros.len();
    let unknown = || "unknown".to_owned();
    html! {
        @if !jobs.is_empty() {
            section {
                h2 { "Slowest and largest jobs" }
                div.scroll {
                    table id="most" {
                        thead { tr {
                            th { button type="button" { "job" } }
                            th { button type="button" { "run time" } }
                            th { button type="button" { "processor" } }
                            th { button type="button" { "memory" } }
                            th.text { "result" }
                            th.text { "command" }
                        } }
                        tbody {
                            @for shown in &jobs {
                                tr {
                                    td data-value=(shown.job) { (shown.job) }
                                    td data-value=(micros(shown.wall)) { (format::duration(shown.wall)) }
                                    td data-value=(shown.cpu.map_or(0, micros)) {
                                        (shown.cpu.map_or_else(unknown, format::duration))
                                    }
                                    td data-value=(shown.memory.unwrap_or_default()) {
                                        (shown.memory.map_or_else(unknown, format::bytes))
                                    }
                                    td class={ "text " (class(shown.kind)) } { (result(shown)) }
                                    td.text { code { (shown.command) } }
                                }
                            }
                        }
                    }
                }
                @if (jobs.len() as u64) < all {
                    p.note {
                        (jobs.len()) " of " (format::count(all))
                        " jobs: those with the longest run times, the most processor time, and the most memory."
                    }
                }
            }
        }
    }
}

fn result(shown: &ShownJob) -> String {
    let mut text = shown.result.clone();
    if shown.attempts > 1 {
        text += &format!(" (attempt {})", shown.attempts);
    }
    if shown.slow {
        text += ", slow";
    }
    if let Some(repeat) = shown.repeat {
        text += &format!(", repeat {repeat}");
    }
    text
}

fn class(kind: EndKind) -> &'static str {
    match kind {
        EndKind::Succeeded => "ok",
        EndKind::Failed => "failed",
        EndKind::TimedOut => "late",
        EndKind::Interrupted => "interrupted",
        EndKind::RunAgain => "again",
        EndKind::Flaky => "flaky",
    }
}

/// What the script draws, as JSON that no text can end: a `<` is an escape.
fn data(run: &Collector, elapsed: Duration) -> String {
    #[derive(Serialize)]
    struct Data<'a> {
        end: u64,
        slots: u32,
        attempts: Vec<&'a ShownAttempt>,
        marks: &'a [(u64, String)],
    }
    let data = Data {
        end: micros(elapsed),
        slots: run.slots,
        attempts: run.timeline.attempts().collect(),
        marks: &run.marks,
    };
    // It consists of strings and numbers, which JSON can represent.
    let json = serde_json::to_string(&data).unwrap_or_default();
    json.replace('<', "\\u003c")
}
