//! The storm, run as a user would.

use std::process::{Command, Output};

use serde_json::Value;

fn loadgen(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(arguments)
        .output()
        .expect("loadgen starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_storm_is_followed_to_its_last_exit_and_saved() {
    let file = std::env::temp_dir().join(format!("loadgen-test-{}.json", std::process::id()));
    let path = file.to_str().expect("a plain path");
    for workers in ["0", "2"] {
        let output = loadgen(&[
            "storm",
            "--children",
            "300",
            "--workers",
            workers,
            "--json",
            path,
        ]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let table = text(&output.stdout);
        for row in [
            "lost",
            "duplicates",
            "latency p99.9",
            "drain time",
            "CPU per exit",
        ] {
            assert!(table.contains(row), "{table}");
        }

        let json: Value = serde_json::from_slice(&std::fs::read(&file).expect("it was written"))
            .expect("it is JSON");
        assert_eq!(json["schema"], "exitring-loadgen/1");
        assert_eq!(json["scenario"], "storm");
        assert!(json["environment"]["kernel"].is_string());
        let runs = json["runs"].as_array().expect("runs");
        assert_eq!(runs.len(), 1);
        let run = &runs[0];
        assert_eq!(
            (&run["children"], &run["exits"]),
            (&300.into(), &300.into())
        );
        for zero in ["lost", "duplicates", "wrong"] {
            assert_eq!(run[zero], 0, "{zero}");
        }
        let latency = &run["latency_ns"];
        let percentiles = ["p50", "p90", "p99", "p99_9", "max"].map(|name| {
            latency[name]
                .as_u64()
                .unwrap_or_else(|| panic!("{name} is missing: {run}"))
        });
        assert!(percentiles.is_sorted(), "{percentiles:?}");
        assert!(percentiles[0] > 0);
        for positive in ["drain_ns", "cpu_ns_per_exit", "fds_held"] {
            assert!(run[positive].as_u64() > Some(0), "{positive}: {run}");
        }
    }
    std::fs::remove_file(file).expect("it is there");
}

#[test]
fn other_contestants_are_measured_the_same_way() {
    for (name, title) in [
        ("exitring-watch", "exitring, watched"),
        ("wait-loop", "bare wait loop"),
    ] {
        let output = loadgen(&["storm", "--children", "100", "--contestant", name]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(text(&output.stdout).contains(title));
    }
}

#[test]
fn a_storm_needs_few_descriptors() {
    let output = Command::new("sh")
        .args(["-c", "ulimit -n 64 && exec \"$0\" storm --children 300"])
        .arg(env!("CARGO_BIN_EXE_loadgen"))
        .output()
        .expect("sh starts");
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn impossible_storms_are_refused_before_anything_is_forked() {
    let output = loadgen(&["storm", "--children", "4000000000"]);
    assert_eq!(output.status.code(), Some(2));
    let message = text(&output.stderr);
    assert!(
        message.contains("too many") && message.contains("at most"),
        "{message}"
    );

    for arguments in [
        &["storm", "--children", "0"][..],
        &["storm", "--children", "x"],
        &[],
    ] {
        assert_eq!(loadgen(arguments).status.code(), Some(2), "{arguments:?}");
    }

    let output = loadgen(&["storm", "--children", "1", "--workers", "1000000"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("workers"));
}

#[test]
fn a_result_that_cannot_be_saved_is_said_so() {
    let output = loadgen(&["storm", "--children", "1", "--json", "/nowhere/storm.json"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("/nowhere/storm.json"));
}
