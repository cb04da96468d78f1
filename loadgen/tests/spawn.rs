//! The spawn scenario, run as a user would.

use std::process::Command;

use serde_json::Value;

#[test]
fn the_ratio_of_spawns_with_and_without_live_children_is_printed_and_saved() {
    let file = std::env::temp_dir().join(format!("loadgen-spawn-{}.json", std::process::id()));
    let output = Command::new("sh")
        .args(["-c", "ulimit -n 64 && exec \"$0\" \"$@\""])
        .arg(env!("CARGO_BIN_EXE_loadgen"))
        .args([
            "spawn", "--live", "200", "--spawns", "10", "--repeat", "2", "--json",
        ])
        .arg(&file)
        .output()
        .expect("sh starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let json = std::fs::read(&file).expect("it was written");
    std::fs::remove_file(&file).expect("it is there");
    let json: Value = serde_json::from_slice(&json).expect("it is JSON");
    assert_eq!(json["scenario"], "spawn");
    let ratio = json["spawn_cost_ratio"].as_f64().expect("a number");
    let median = |run: usize| {
        json["runs"][run]["latency_ns"]["p50"]
            .as_f64()
            .expect("a number")
    };
    // Printed and read again, it may be off by the last digit.
    assert!((ratio - median(1) / median(0)).abs() < 1e-9);
    for (run, live) in [(0, 0), (1, 200)] {
        let run = &json["runs"][run];
        assert_eq!((&run["live"], &run["spawns"]), (&live.into(), &20.into()));
        assert_eq!(run["wrong"], 0);
    }
    assert!(String::from_utf8_lossy(&output.stdout).contains("spawn_cost_ratio"));
}
