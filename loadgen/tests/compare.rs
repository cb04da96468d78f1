//! Comparisons and their reports on the command line.

mod common;

use common::{Scratch, assert_fits_the_schema, loadgen, measure, read_json, starters, text};
use serde_json::Value;

const RUST_CONTESTANTS: [&str; 12] = [
    "exitring",
    "exitring-inline",
    "exitring-no-usage",
    "exitring-watch",
    "exitring-epoll",
    "shadow",
    "tokio",
    "async-process",
    "sigchld-scan",
    "thread-per-child",
    "uring-waitid",
    "wait-loop",
];

#[test]
fn every_contestant_takes_part_in_a_storm_in_turns() {
    let scratch = Scratch::new("compare-storm");
    let (table, json) = measure(
        &scratch,
        &["compare", "storm", "--children", "200", "--repeat", "2"],
    );
    assert_fits_the_schema(&json);
    let runs = json["runs"].as_array().expect("runs").iter();
    let turns: Vec<_> = runs
        .map(|run| (run["contestant"].as_str(), run["round"].as_u64()))
        .collect();
    let expected = (1..=2).flat_map(|round| RUST_CONTESTANTS.map(|name| (Some(name), Some(round))));
    assert_eq!(turns, expected.collect::<Vec<_>>());
    for run in json["runs"].as_array().expect("runs") {
        let ratio = run["ratio_to_reference"].as_f64();
        assert!(ratio.is_some_and(|ratio| ratio > 0.0), "{run}");
        // The others only release a handle, which is not an end to compare with.
        let name = run["contestant"].as_str().expect("a name");
        assert_eq!(run["end_ns"].is_number(), name.starts_with("exitring"));
    }
    for title in [
        "workers(1)",
        "workers(0)",
        "Shadow",
        "tokio",
        "bare wait loop",
    ] {
        assert!(table.contains(title), "{table}");
    }
}

#[test]
fn every_contestant_takes_part_in_steady_churn_and_spawn() {
    let scratch = Scratch::new("compare-others");
    for (arguments, measured) in [
        (
            &[
                "steady",
                "--live",
                "100",
                "--rate",
                "200",
                "--duration",
                "0.5",
            ][..],
            "latency_from_plan_ns",
        ),
        (
            &[
                "churn",
                "--duration",
                "0.2",
                "--concurrency",
                "8",
                "--live",
                "50",
            ],
            "children_per_s",
        ),
        (
            &["spawn", "--live", "30", "--spawns", "20", "--turns", "1"],
            "spawn_cost_ratio",
        ),
    ] {
        let (_, json) = measure(
            &scratch,
            &[&["compare"], arguments, &["--repeat", "1"]].concat(),
        );
        assert_fits_the_schema(&json);
        let runs = json["runs"].as_array().expect("runs");
        // The others take part only if children execute programs.
        let mut expected = RUST_CONTESTANTS.to_vec();
        if measured == "spawn_cost_ratio" {
            expected.splice(5..5, starters(&json));
            expected.extend(["std-spawn", "posix-spawn"]);
        }
        let names: Vec<_> = runs.iter().map(|run| run["contestant"].as_str()).collect();
        let expected: Vec<_> = expected.into_iter().map(Some).collect();
        assert_eq!(names, expected, "{arguments:?}: {}", json["absent"]);
        for run in runs {
            assert!(!run[measured].is_null(), "{measured}: {run}");
        }
    }
}

#[test]
fn a_contestant_that_cannot_register_is_absent_with_a_reason() {
    let scratch = Scratch::new("compare-register");
    let arguments = [
        "compare",
        "register",
        "--callback-sleep",
        "5",
        "--duration",
        "0.2",
        "--repeat",
        "1",
    ];
    let (table, json) = measure(&scratch, &arguments);
    assert_fits_the_schema(&json);
    let absent: Vec<_> = json["absent"].as_array().expect("a list").iter().collect();
    let names: Vec<_> = absent
        .iter()
        .map(|absent| absent["contestant"].as_str())
        .collect();
    assert_eq!(
        names,
        [
            "exitring-std",
            "exitring-pre-exec",
            "exitring-cgroup",
            "tokio",
            "async-process",
            "std-spawn",
            "posix-spawn"
        ]
        .map(Some)
    );
    assert!(absent.iter().all(|absent| absent["failed"] == false));
    assert!(
        table.contains("watches only children that it starts itself"),
        "{table}"
    );

    // It is an error if the contestant is named.
    let output = loadgen(&["register", "--with", "tokio"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("watches only children that it starts itself"));
}

#[test]
fn sizes_are_measured_in_order() {
    let scratch = Scratch::new("scale");
    let arguments = [
        "scale",
        "--sizes",
        "10,50",
        "--rate",
        "200",
        "--duration",
        "0.3",
        "--with",
        "exitring,shadow",
        "--repeat",
        "1",
    ];
    let (table, json) = measure(&scratch, &arguments);
    assert_fits_the_schema(&json);
    let lines = json["summary"].as_array().expect("lines").iter();
    let lines: Vec<_> = lines
        .map(|line| (line["live"].as_u64(), line["contestant"].as_str()))
        .collect();
    let expected = [
        (Some(10), Some("exitring")),
        (Some(10), Some("shadow")),
        (Some(50), Some("exitring")),
        (Some(50), Some("shadow")),
    ];
    assert_eq!(lines, expected, "{table}");
}

#[test]
fn a_page_is_made_from_saved_results_and_is_self_contained() {
    let scratch = Scratch::new("report");
    let (_, json) = measure(
        &scratch,
        &[
            "compare",
            "storm",
            "--children",
            "200",
            "--with",
            "exitring,wait-loop",
        ],
    );
    let (result, page) = (scratch.file("result.json"), scratch.file("report.html"));
    let output = loadgen(&["report", &result, "--html", &page]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let html = std::fs::read_to_string(&page).expect("it was written");
    for line in json["summary"].as_array().expect("lines") {
        assert!(
            html.contains(line["title"].as_str().expect("a title")),
            "{line}"
        );
    }
    assert!(html.contains("<svg"), "no picture");
    let foreign = html.replace("http://www.w3.org/2000/svg", "");
    assert!(
        !foreign.contains("http://")
            && !foreign.contains("https://")
            && !foreign.contains("<script")
    );

    let output = loadgen(&["report", "/nowhere.json", "--html", &page]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("/nowhere.json"));
    std::fs::write(&result, r#"{"schema": "something else/1"}"#).expect("it can be written");
    let output = loadgen(&["report", &result, "--html", &page]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("something else/1"));
}

/// Changes a result to the form that it had in the version before.
fn to_version_2(mut json: Value) -> Value {
    json["schema"] = "exitring-loadgen/2".into();
    for run in json["runs"].as_array_mut().expect("runs") {
        let run = run.as_object_mut().expect("a run");
        let ratio = run.remove("ratio_to_reference").expect("a ratio");
        run.insert("ratio_to_exitring".into(), ratio);
    }
    for line in json["summary"].as_array_mut().expect("lines") {
        let line = line.as_object_mut().expect("a line");
        line.remove("is_reference");
        let metrics = line["metrics"].as_object_mut().expect("metrics");
        for spread in metrics.values_mut() {
            let spread = spread.as_object_mut().expect("a spread");
            if let Some(ratio) = spread.remove("ratio") {
                spread.insert("ratio_to_exitring".into(), ratio["median"].clone());
            }
        }
        metrics.insert("ratio".into(), metrics["drain"].clone());
    }
    json
}

#[test]
fn results_of_the_version_before_are_read() {
    let scratch = Scratch::new("version-2");
    let arguments = ["storm", "--children", "50", "--repeat", "6"];
    let (_, json) = measure(
        &scratch,
        &[&arguments[..], &["--with", "exitring,wait-loop"]].concat(),
    );
    let pages = [json.clone(), to_version_2(json)].map(|json| {
        let (result, page) = (scratch.file("result.json"), scratch.file("report.html"));
        std::fs::write(&result, json.to_string()).expect("it can be written");
        let output = loadgen(&["report", &result, "--html", &page]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        std::fs::read_to_string(&page).expect("it was written")
    });
    assert!(pages[0].contains("95 % interval"));
    assert!(pages[0] == pages[1], "the pages differ");
}

#[test]
fn the_published_schema_is_the_one_of_this_program() {
    let output = loadgen(&["schema"]);
    let printed: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    let published = read_json(concat!(env!("CARGO_MANIFEST_DIR"), "/schema.json"));
    // `assert_eq` would print both.
    assert!(
        printed == published,
        "update the file: loadgen schema > loadgen/schema.json"
    );
}

#[test]
fn histograms_are_saved_for_each_contestant() {
    let scratch = Scratch::new("hgrm");
    let directory = scratch.file("hgrm");
    let arguments = [
        "storm",
        "--children",
        "100",
        "--repeat",
        "2",
        "--with",
        "exitring,wait-loop",
        "--hgrm",
        &directory,
    ];
    measure(&scratch, &arguments);
    for name in ["storm-exitring.hgrm", "storm-wait-loop.hgrm"] {
        let path = std::path::Path::new(&directory).join(name);
        let hgrm = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        // The file contains both rounds.
        assert!(hgrm.contains("Total count    =          200"), "{hgrm}");
    }
}

#[test]
fn contestants_in_other_languages_take_part_if_they_are_installed() {
    let scratch = Scratch::new("external");
    for (name, interpreter) in [("python-asyncio", "python3"), ("node", "node")] {
        let arguments = ["storm", "--children", "30", "--with", name];
        let installed = std::process::Command::new(interpreter)
            .arg("--version")
            .output()
            .is_ok();
        if installed {
            let (_, json) = measure(&scratch, &arguments);
            assert_eq!(json["runs"][0]["exits"], 30);
        } else {
            let output = loadgen(&arguments);
            assert_eq!(output.status.code(), Some(2));
            assert!(text(&output.stderr).contains("not installed"));
        }
    }
}
