//! The serve scenario on the command line.

mod common;

use std::process::Command;

use common::{Scratch, measure};

#[test]
fn the_service_reports_every_exit_to_its_clients() {
    // The service is a program of another package, in the same target directory.
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "-q", "-p", "exitring-cli"]);
    assert!(build.status().expect("cargo starts").success());
    let scratch = Scratch::new("serve");
    let (table, json) = measure(
        &scratch,
        &[
            "serve",
            "--clients",
            "8",
            "--watches",
            "50",
            "--repeat",
            "1",
        ],
    );
    for title in [
        "owned",
        "watched",
        "--durability process",
        "--durability power",
    ] {
        assert!(table.contains(title), "{table}");
    }
    assert_eq!(json["scenario"], "serve");
    assert_eq!(json["headline"], "p99");
    let runs = json["runs"].as_array().expect("runs");
    assert_eq!(runs.len(), 4);
    for run in runs {
        assert_eq!(run["exits"], 400, "{run}");
        for bad in ["lost", "duplicates", "wrong"] {
            assert_eq!(run[bad], 0, "{run}");
        }
    }
}

#[test]
fn the_service_takes_part_in_no_other_scenario() {
    let output = common::loadgen(&["storm", "--children", "10", "--with", "serve"]);
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("takes part in serve only"), "{error}");
}
