//! Tests of whole pages from constructed reports.

use super::page::page;
use crate::report::results::{Absent, Report};
use crate::types::environment::Environment;
use crate::types::kind::Kind;
use crate::types::latency::Latencies;
use crate::types::metric::Metric;
use crate::types::run::Run;

fn run(contestant: Kind, title: &str, round: u32) -> Run {
    let mut run = Run {
        contestant,
        round,
        title: title.into(),
        fds_held: 7,
        cpu_ns_per_exit: 5000,
        ..Run::default()
    };
    let latencies = Latencies::of((1..=1000).map(|n| n * 1000)).expect("in range");
    run.set_latencies(latencies).expect("it fits");
    run
}

fn report(runs: Vec<Run>) -> Report {
    let kinds = [Kind::Exitring, Kind::Tokio];
    let mut report = Report::new("storm", &[], &kinds, 1, Environment::default());
    report.headline = Metric::P50;
    for run in runs {
        report.add(run);
    }
    report.summarize();
    report
}

fn text(reports: &[Report]) -> String {
    page(reports).expect("it can be drawn").into_string()
}

#[test]
fn a_page_shows_all_contestants_and_fetches_nothing() {
    let runs = vec![
        run(Kind::Exitring, "first <script>", 1),
        run(Kind::Tokio, "second & \"last\"", 1),
        run(Kind::Tokio, "second & \"last\"", 2),
    ];
    let page = text(&[report(runs)]);
    assert!(
        page.contains("first &lt;script&gt;") && page.contains("second &amp; &quot;last&quot;")
    );
    assert!(!page.contains("<script"));
    let without_names = page.replace("xmlns=\"http://www.w3.org/2000/svg\"", "");
    for foreign in ["http:", "https:", "//", "@import", "url(", "src="] {
        assert!(!without_names.contains(foreign), "{foreign}");
    }
    assert!(page.contains("Latency from exit to known status, by percentile"));
    assert_eq!(page.matches("<figure").count(), 3);
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
}

#[test]
fn latencies_of_executed_children_are_from_the_call_that_starts_them() {
    let executed = Run {
        program: Some("true".into()),
        ..run(Kind::Exitring, "ours", 1)
    };
    let page = text(&[report(vec![executed])]);
    assert!(page.contains("Latency from the call that starts the child to the known status, by"));
    assert!(!page.contains("Latency from exit"));
}

#[test]
fn a_report_without_runs_says_so() {
    let page = text(&[report(Vec::new())]);
    assert!(page.contains("Nothing was measured."));
    assert!(!page.contains("<svg") && !page.contains("NaN"));
    text(&[]);
}

#[test]
fn a_run_with_few_samples_has_no_curve() {
    let mut few = run(Kind::Exitring, "few", 1);
    few.set_latencies(Latencies::of([1, 2, 3]).expect("in range"))
        .expect("it fits");
    let page = text(&[report(vec![few])]);
    assert!(!page.contains("by percentile"));
    assert_eq!(page.matches("<figure").count(), 2);
}

#[test]
fn an_invalid_histogram_is_an_error_that_names_its_run() {
    let broken = Run {
        title: "broken".into(),
        histogram: "?".into(),
        round: 4,
        ..Run::default()
    };
    let error = page(&[report(vec![broken])]).expect_err("no histogram");
    assert!(error.to_string().contains("broken, round 4"), "{error:#}");
}

#[test]
fn several_sizes_give_curves_instead_of_bars() {
    let sizes = [0, 100, 1000].map(|live| Run {
        live: Some(live),
        ..run(Kind::Exitring, "ours", 1)
    });
    let steady = r#"{"steady":{"live":0,"rate":1,"duration":1.0,"arrivals":"poisson","seed":1}}"#;
    let steady = serde_json::from_str(steady).expect("a scenario");
    let mut report = report(sizes.to_vec());
    report.scenarios = vec![steady; 3];
    let page = text(&[report]);
    assert!(
        page.contains("live children") && page.contains("by percentile, with 1000 live children")
    );
    // CPU time, descriptors and percentiles. These runs have no plan and no memory.
    assert_eq!(page.matches("<figure").count(), 3);
}

#[test]
fn the_best_is_bold_and_errors_and_absent_contestants_are_shown() {
    let rated = |kind, title, rate| Run {
        children_per_s: Some(rate),
        ..run(kind, title, 1)
    };
    let lossy = Run {
        lost: 3,
        ..rated(Kind::Shadow, "lossy", 200.0)
    };
    let mut report = report(vec![
        rated(Kind::Tokio, "slow", 10.0),
        rated(Kind::Exitring, "fast", 99.0),
        lossy,
    ]);
    report.absent.push(Absent {
        contestant: Kind::WaitLoop,
        title: "gone".into(),
        live: None,
        why: "no pidfd".into(),
        failed: true,
    });
    let page = text(&[report]);
    assert!(page.contains("<b>99/s</b>") && !page.contains("<b>10/s</b>"));
    // It has the highest rate, but it lost exits.
    assert!(page.contains("200/s") && !page.contains("<b>200/s</b>"));
    assert!(page.contains("<span class=\"bad\">3</span>, 0, 0"));
    // All have the same number of descriptors.
    assert!(!page.contains("<b>7</b>"));
    assert!(page.contains("no pidfd"));
}

#[test]
fn rounds_with_very_different_latencies_are_merged() {
    let mut slow = run(Kind::Exitring, "ours", 2);
    let latencies = Latencies::of((1..=1000).map(|n| n * 1_000_000_000)).expect("in range");
    slow.set_latencies(latencies).expect("it fits");
    let page = text(&[report(vec![run(Kind::Exitring, "ours", 1), slow])]);
    assert!(page.contains("by percentile"));
}

/// Six rounds of two contestants of which the second is slower and takes as much CPU time.
fn six_rounds() -> Vec<Run> {
    let rounds = (1..=6).flat_map(|round| {
        let mut slow = run(Kind::Tokio, "slow", round);
        let latencies = Latencies::of((1..=1000).map(|n| n * 2000)).expect("in range");
        slow.set_latencies(latencies).expect("it fits");
        [run(Kind::Exitring, "first", round), slow]
    });
    rounds.collect()
}

#[test]
fn ratios_have_an_interval_and_a_verdict_from_six_rounds_on() {
    let page = text(&[report(six_rounds())]);
    assert!(page.contains("<small class=\"worse\">slower</small>"));
    assert!(page.contains("<small class=\"same\">no difference shown</small>"));
    assert!(page.contains("×1.000 (1.000 to 1.000)"), "CPU time");
    assert!(page.contains("ratios to first in the same round (its 95 % interval, from 10,000"));

    let few = six_rounds().into_iter().filter(|run| run.round < 6);
    let page = text(&[report(few.collect())]);
    assert!(page.contains("too few rounds for an interval, which needs 6"));
    assert!(!page.contains("slower") && !page.contains(" to 1.000)"));
}

#[test]
fn two_builds_of_a_contestant_have_a_row_and_a_curve_each() {
    let mut runs = six_rounds();
    for run in &mut runs {
        if run.contestant == Kind::Tokio {
            run.contestant = Kind::Exitring;
            run.build = Some("old".into());
        }
    }
    let mut report = report(runs);
    report.against = Some("old".into());
    report.summarize();
    let page = text(&[report]);
    assert!(page.contains("<small class=\"better\">faster</small>"));
    assert!(page.contains("ratios to the same contestant of the build &quot;old&quot;"));
    // The legend of the percentiles has both.
    let legend = page
        .split("<ul class=\"legend\">")
        .nth(1)
        .expect("a legend");
    let legend = legend.split("</ul>").next().expect("it ends");
    assert_eq!(legend.matches("<li>").count(), 2, "{legend}");
}
