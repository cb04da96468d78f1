//! The spawn scenario, run as a user would.

mod common;

use common::{Place, measure};

#[test]
fn the_ratio_of_spawns_with_and_without_live_children_is_printed_and_saved() {
    let place = Place::new("spawn");
    let arguments = ["spawn", "--live", "200", "--spawns", "10", "--turns", "2"];
    let (table, json) = measure(&place, &arguments);
    assert_eq!(json["scenario"], "spawn");
    let ratio = json["spawn_cost_ratio"].as_f64().expect("a number");
    let run = &json["runs"][0];
    assert_eq!((&run["live"], &run["exits"]), (&200.into(), &40.into()));
    let median = |place: &str| run.pointer(place).and_then(serde_json::Value::as_f64);
    let (live, none) = (
        median("/latency_ns/p50"),
        median("/spawn_cost/without_live_ns/p50"),
    );
    let expected = live.expect("20 samples tell it") / none.expect("20 samples tell it");
    // Printed and read again, it may be off by the last digit.
    assert!((ratio - expected).abs() < 1e-9);
    assert!(table.contains("spawn_cost_ratio"), "{table}");
}
