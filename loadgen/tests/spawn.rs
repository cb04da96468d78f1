//! The spawn scenario on the command line.

mod common;

use common::{Scratch, measure};

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
