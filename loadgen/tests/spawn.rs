//! The spawn scenario on the command line.

mod common;

use common::{Scratch, assert_fits_the_schema, loadgen, measure, read_json, text};

#[test]
fn the_spawn_cost_ratio_is_printed_and_saved() {
    let scratch = Scratch::new("spawn");
    let arguments = ["spawn", "--live", "200", "--spawns", "10", "--turns", "2"];
    let (table, json) = measure(&scratch, &arguments);
    assert_eq!(json["scenario"], "spawn");
    let ratio = json["spawn_cost_ratio"].as_f64().expect("a number");
    let run = &json["runs"][0];
    assert_eq!((&run["live"], &run["exits"]), (&200.into(), &40.into()));
    let median = |place: &str| run.pointer(place).and_then(serde_json::Value::as_f64);
    let (live, none) = (
        median("/latency_ns/p50"),
        median("/spawn_cost/without_live_ns/p50"),
    );
    let expected = live.expect("20 samples are enough") / none.expect("20 samples are enough");
    // The last digit may differ after printing and parsing.
    assert!((ratio - expected).abs() < 1e-9);
    assert!(table.contains("spawn_cost_ratio"), "{table}");
}

#[test]
fn ways_to_start_programs_are_compared_by_the_call_with_resident_memory() {
    let scratch = Scratch::new("spawn-resident");
    let arguments = [
        "compare",
        "spawn",
        "--live",
        "3",
        "--spawns",
        "20",
        "--turns",
        "1",
        "--repeat",
        "2",
        "--resident",
        "10MB",
        "--with",
        "exitring,exitring-std,exitring-pre-exec,exitring-cgroup,std-spawn,posix-spawn",
    ];
    let (table, json) = measure(&scratch, &arguments);
    assert_fits_the_schema(&json);
    assert_eq!(json["headline"], "spawn-call");
    assert_eq!(json["scenarios"][0]["spawn"]["resident"], 10_000_000);
    assert!(table.contains("10 MB of resident memory"), "{table}");
    let runs = json["runs"].as_array().expect("runs");
    for run in runs {
        assert_eq!(run["resident_bytes"], 10_000_000, "{run}");
        // The threads of this contestant start the children after the call.
        let call = run["spawn_cost"]["call_ns"]["p50"].is_number();
        assert_eq!(call, run["contestant"] != "posix-spawn", "{run}");
        assert_eq!(run["ratio_to_reference"].is_number(), call, "{run}");
    }
    let absent = json["absent"].as_array().expect("a list").len();
    assert_eq!(runs.len(), 2 * (6 - absent), "{}", json["absent"]);
    // All but the three with other ways to start programs take part anyway.
    assert_eq!(6 - absent, 3 + common::starters(&json).len());

    let (result, page) = (scratch.file("result.json"), scratch.file("report.html"));
    let output = loadgen(&["report", &result, "--html", &page]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let html = std::fs::read_to_string(&page).expect("it was written");
    assert!(html.contains("10 MB of resident memory"));

    // A single run shows it too, and the same build knows the option.
    let this = env!("CARGO_BIN_EXE_loadgen");
    let arguments = [
        "spawn",
        "--live",
        "1",
        "--spawns",
        "5",
        "--turns",
        "1",
        "--resident",
        "1MiB",
    ];
    let (table, _) = measure(&scratch, &arguments);
    assert!(table.contains("resident memory"), "{table}");
    let against = ["--against", this, "--repeat", "1"];
    let (_, json) = measure(&scratch, &[&arguments[..], &against].concat());
    assert_eq!(json["runs"].as_array().map(Vec::len), Some(2));
    assert_eq!(read_json(&result)["runs"][1]["resident_bytes"], 1 << 20);
}

#[test]
fn resident_memory_that_cannot_be_had_is_refused() {
    for (size, why) in [
        ("8000TB", "is too much for this machine"),
        ("10", "no unit"),
        ("10XB", "is no unit"),
        ("0MB", "at least 1B"),
    ] {
        let output = loadgen(&["spawn", "--resident", size]);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(why), "{stderr}");
    }
    let output = loadgen(&["spawn", "--resident", "1MB", "--with", "python-asyncio"]);
    assert_eq!(output.status.code(), Some(2));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("in a process of its own"), "{stderr}");
}
