//! The storm scenario on the command line.

mod common;

use std::process::Command;

use common::{Scratch, loadgen, measure, read_json, text};

#[test]
fn a_storm_delivers_every_exit_and_is_saved() {
    let scratch = Scratch::new("storm");
    for workers in ["0", "2"] {
        let (table, json) = measure(
            &scratch,
            &["storm", "--children", "1000", "--workers", workers],
        );
        for row in [
            "lost",
            "duplicates",
            "latency p99",
            "drain time",
            "CPU per exit",
        ] {
            assert!(table.contains(row), "{table}");
        }
        assert!(
            !table.contains("latency p99.9"),
            "1,000 samples are too few for it: {table}"
        );
        assert_eq!(json["schema"], "exitring-loadgen/3");
        assert_eq!(json["scenario"], "storm");
        assert!(json["environment"]["kernel"].is_string());
        let runs = json["runs"].as_array().expect("runs");
        assert_eq!(runs.len(), 1);
        let run = &runs[0];
        assert_eq!(
            (&run["children"], &run["contestant"]),
            (&1000.into(), &"exitring".into())
        );
        assert_eq!(run["ratio_to_reference"], 1.0);
        let latency = &run["latency_ns"];
        let percentiles = ["p50", "p90", "p99", "max"].map(|name| {
            let value = latency[name].as_u64();
            value.unwrap_or_else(|| panic!("{name} is missing: {run}"))
        });
        assert!(percentiles.is_sorted(), "{percentiles:?}");
        assert!(percentiles[0] > 0);
        assert!(latency["p99_9"].is_null());
        for positive in ["drain_ns", "cpu_ns_per_exit", "fds_held", "bytes_per_watch"] {
            assert!(run[positive].as_u64() > Some(0), "{positive}: {run}");
        }
        // With workers, an exit passes through a queue.
        let stages = run["stages"].as_array().expect("stages").iter();
        let stages: Vec<_> = stages.map(|stage| stage["stage"].as_str()).collect();
        let last = if workers == "0" {
            "seen to callback"
        } else {
            "queued to callback"
        };
        assert_eq!(stages.first(), Some(&Some("exit to seen")));
        assert_eq!(stages.last(), Some(&Some(last)));
    }
}

#[test]
fn a_storm_needs_few_descriptors() {
    let output = Command::new("sh")
        .args(["-c", "ulimit -n 64 && exec \"$0\" storm --children 300"])
        .arg(env!("CARGO_BIN_EXE_loadgen"))
        // The epoll backend needs a descriptor per child.
        .env("EXITRING_BACKEND", "uring")
        .output()
        .expect("sh starts");
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn impossible_storms_are_rejected_before_the_first_fork() {
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
fn an_unwritable_result_file_is_reported_before_the_first_run() {
    let output = loadgen(&["storm", "--children", "1", "--json", "/nowhere/storm.json"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("/nowhere/storm.json"));
    assert!(text(&output.stdout).is_empty());

    // A device is written to, not replaced.
    let output = loadgen(&["storm", "--children", "1", "--json", "/dev/null"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let null = std::fs::metadata("/dev/null").expect("it is there");
    assert!(std::os::unix::fs::FileTypeExt::is_char_device(
        &null.file_type()
    ));
}

#[test]
fn a_report_written_through_a_link_replaces_all_of_a_longer_file() {
    let scratch = Scratch::new("link");
    let (target, link) = (scratch.file("target.json"), scratch.file("link.json"));
    std::fs::write(&target, "x".repeat(1 << 20)).expect("the file is written");
    std::os::unix::fs::symlink(&target, &link).expect("the link is made");
    let output = loadgen(&["storm", "--children", "10", "--json", &link]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(read_json(&target)["scenario"], "storm");
}
