//! Comparisons with another build, which here is a copy of this one or a script.

mod common;

use std::process::{Command, Output};

use common::{Scratch, assert_fits_the_schema, loadgen, measure, read_json, text};

const LOADGEN: &str = env!("CARGO_BIN_EXE_loadgen");

#[test]
fn both_builds_run_in_turns_and_are_compared_contestant_by_contestant() {
    let scratch = Scratch::new("against");
    let arguments = [
        "storm",
        "--children",
        "50",
        "--with",
        "exitring,wait-loop",
        "--against",
        LOADGEN,
    ];
    let (table, json) = measure(&scratch, &arguments);
    assert_fits_the_schema(&json);
    assert_eq!(json["against"], "other build");
    let runs = json["runs"].as_array().expect("runs").iter();
    let turns: Vec<_> = runs
        .map(|run| {
            let (kind, round) = (run["contestant"].as_str(), run["round"].as_u64());
            (round, kind, run["build"].as_str())
        })
        .collect();
    let in_round = |round| {
        let kinds = [Some("exitring"), Some("wait-loop")];
        let builds = [None, Some("other build")];
        kinds.map(|kind| builds.map(|build| (Some(round), kind, build)))
    };
    let expected: Vec<_> = (1..=6).flat_map(in_round).flatten().collect();
    assert_eq!(turns, expected);

    let lines = json["summary"].as_array().expect("lines");
    let references: Vec<_> = lines.iter().map(|line| &line["is_reference"]).collect();
    assert_eq!(references, [false, true, false, true]);
    for line in lines {
        // Each contestant holds as many descriptors in both builds; without any there is no ratio.
        let descriptors = &line["metrics"]["fds"]["ratio"];
        if line["contestant"] == "exitring" {
            assert_eq!(descriptors["median"], 1.0, "{line}");
        }
        assert_eq!(line["metrics"]["drain"]["ratio"]["rounds"], 6);
    }
    assert!(table.contains("bare wait loop (other build)"), "{table}");
}

#[test]
fn executed_children_are_compared_with_another_build() {
    let scratch = Scratch::new("against-exec");
    let arguments = [
        "churn",
        "--exec",
        "--duration",
        "0.1",
        "--concurrency",
        "2",
        "--repeat",
        "1",
        "--against",
        LOADGEN,
    ];
    let (_, json) = measure(&scratch, &arguments);
    assert_eq!(json["scenario"], "churn-exec");
    assert_eq!(json["runs"][1]["build"], "other build");
}

fn with_cache(scratch: &Scratch, arguments: &[&str]) -> Output {
    Command::new(LOADGEN)
        .args(arguments)
        .env("XDG_CACHE_HOME", scratch.file("cache"))
        .output()
        .expect("loadgen starts")
}

#[test]
fn a_saved_build_is_compared_by_name() {
    let scratch = Scratch::new("baseline");
    let path = scratch.file("result.json");
    let storm = [
        "storm",
        "--children",
        "50",
        "--repeat",
        "2",
        "--json",
        &path,
    ];
    let against = [&storm[..], &["--baseline", "first"]].concat();

    let output = with_cache(&scratch, &against);
    assert_eq!(output.status.code(), Some(2));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("loadgen --save-baseline first"), "{stderr}");

    let output = with_cache(&scratch, &["--save-baseline", "first"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(output.stdout.is_empty(), "nothing was measured");

    let output = with_cache(&scratch, &against);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("workers(1) (first)"));
    let json = read_json(&path);
    assert_eq!(json["runs"][1]["build"], "first");

    // The copy is made before the measurement.
    let both = [&against[..], &["--save-baseline", "new"]].concat();
    let output = with_cache(&scratch, &both);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let same = [&against[..], &["--save-baseline", "first"]].concat();
    let output = with_cache(&scratch, &same);
    assert_eq!(output.status.code(), Some(2));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("under another name"), "{stderr}");
}

/// A program that answers as a build of another version.
fn script(scratch: &Scratch, name: &str, schema: &str, run: &str) -> String {
    scratch.script(
        name,
        &format!("case $1 in\nschema) {schema};;\n*) {run};;\nesac\n"),
    )
}

#[test]
fn a_build_that_cannot_be_compared_is_an_error_that_says_why() {
    let scratch = Scratch::new("versions");
    let schema = format!("'{LOADGEN}' schema");
    let without_storm = format!("{schema} | sed 's/\"storm\"/\"tempest\"/'");
    let without_option = format!("{schema} | sed 's/\"children\"/\"pups\"/'");
    for (name, schema, run, whys) in [
        ("not-loadgen", "echo hello", "true", &["not a loadgen"][..]),
        (
            "scenario",
            &without_storm,
            "true",
            &["versions", "differ", "does not have the scenario storm"],
        ),
        (
            "option",
            &without_option,
            "true",
            &["versions", "differ", "option --children of storm"],
        ),
        (
            "argument",
            &schema,
            "exit 2",
            &["their versions may differ", "exit status: 2"],
        ),
        (
            "answer",
            &schema,
            "echo '{\"run\":{\"contestant\":\"exitring\"}}'",
            &["their versions may differ"],
        ),
        (
            "failure",
            &schema,
            "echo '{\"error\":\"no more pids\"}'",
            &["no more pids"],
        ),
    ] {
        let program = script(&scratch, name, schema, run);
        let output = loadgen(&["storm", "--children", "10", "--against", &program]);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{name}: {stderr}");
        for why in whys {
            assert!(stderr.contains(why), "{name}: {stderr}");
        }
    }
    let output = loadgen(&["storm", "--children", "10", "--against", "/nowhere"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("/nowhere"));
}
