//! Shards of a list.

mod common;

use std::collections::BTreeSet;

use common::{exitring, shell, stdout};

fn lines(output: &[u8]) -> BTreeSet<u32> {
    String::from_utf8_lossy(output)
        .lines()
        .map(|line| line.parse().expect("a number"))
        .collect()
}

fn arguments() -> Vec<String> {
    (1..=50).map(|number| number.to_string()).collect()
}

#[test]
fn the_shards_are_disjoint_and_cover_the_list() {
    let mut all = Vec::new();
    for part in ["1/3", "2/3", "3/3"] {
        let output = exitring(["run", "--shard", part, "--", "echo", "{}", ":::"])
            .args(arguments())
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stderr)
                .matches("running shard")
                .count(),
            0,
            "no message if --shard is given"
        );
        all.extend(lines(&output.stdout));
    }
    assert_eq!(all.len(), 50);
    assert_eq!(BTreeSet::from_iter(all), (1..=50).collect());
}

#[test]
fn job_numbers_are_those_of_the_whole_list() {
    let output = exitring(["run", "--shard", "2/3", "--", "echo", "{#}", ":::"])
        .args(arguments())
        .output()
        .unwrap();
    assert_eq!(lines(&output.stdout), (2..=50).step_by(3).collect());
}

#[test]
fn a_shard_from_a_launcher_is_reported_once() {
    let launchers = [
        [("SLURM_PROCID", "1"), ("SLURM_NTASKS", "3")],
        [("JOB_COMPLETION_INDEX", "1"), ("EXITRING_SHARD_COUNT", "3")],
        [("CI_NODE_INDEX", "2"), ("CI_NODE_TOTAL", "3")],
        [("CIRCLE_NODE_INDEX", "1"), ("CIRCLE_NODE_TOTAL", "3")],
        [
            ("BUILDKITE_PARALLEL_JOB", "1"),
            ("BUILDKITE_PARALLEL_JOB_COUNT", "3"),
        ],
    ];
    for launcher in launchers {
        let run = |options: &[&str]| {
            exitring(["run"])
                .args(options)
                .args(["--", "echo", "{}", ":::"])
                .args(arguments())
                .envs(launcher)
                .output()
                .unwrap()
        };
        let output = run(&[]);
        assert_eq!(
            lines(&output.stdout),
            (2..=50).step_by(3).collect(),
            "{launcher:?}"
        );
        assert_eq!(
            String::from_utf8_lossy(&output.stderr)
                .matches("running shard 2/3")
                .count(),
            1
        );
        let output = run(&["--shard", "none"]);
        assert_eq!(lines(&output.stdout).len(), 50, "{launcher:?}");
    }
}

#[test]
fn incomplete_launcher_variables_are_an_error() {
    let output = shell("JOB_COMPLETION_INDEX=2 $EXITRING run -- echo ::: 1 2 3")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("EXITRING_SHARD_COUNT"),
        "{output:?}"
    );
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let variables = ["EXITRING_SHARD", "SLURM_PROCID", "JOB_COMPLETION_INDEX"];
    let mut run = exitring(["run", "--", "echo", "{}", ":::", "1", "2"]);
    let output = run.envs(variables.map(|name| (name, ""))).output().unwrap();
    assert_eq!(lines(&output.stdout), BTreeSet::from([1, 2]), "{output:?}");
    let mut run = exitring(["run", "--", "echo", "{}", ":::", "1", "2"]);
    let output = run.env("EXITRING_SHARD", "2/2").output().unwrap();
    assert_eq!(lines(&output.stdout), BTreeSet::from([2]), "{output:?}");
    let mut run = exitring(["run", "--", "echo", "{}", ":::", "1", "2"]);
    let output = run.env("EXITRING_SHARD", "x").output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

/// The environments that select part 2 of 2.
const SECOND_OF_TWO: [&[(&str, &str)]; 5] = [
    &[("EXITRING_SHARD", "2/2")],
    &[
        ("SLURM_STEP_ID", "0"),
        ("SLURM_PROCID", "1"),
        ("SLURM_NTASKS", "2"),
    ],
    &[("JOB_COMPLETION_INDEX", "1"), ("EXITRING_SHARD_COUNT", "2")],
    &[("CI_NODE_INDEX", "2"), ("CI_NODE_TOTAL", "2")],
    &[("CIRCLE_NODE_INDEX", "1"), ("CIRCLE_NODE_TOTAL", "2")],
];

/// The lines that a run prints whose job 2 is a script, in these environments, sorted.
fn printed_by_a_job(script: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let mut command = shell("$EXITRING run -q -j1 -- sh -c {} ::: 'echo first part' \"$SCRIPT\"");
    command
        .envs(variables.iter().copied())
        .env("SCRIPT", script);
    let output = stdout(&mut command);
    let mut lines: Vec<_> = output.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

#[test]
fn a_run_inside_a_job_runs_its_whole_list() {
    let script = "echo $EXITRING_SHARD; $EXITRING run -q -- echo {} ::: a b c d";
    for variables in SECOND_OF_TWO {
        let lines = printed_by_a_job(script, variables);
        assert_eq!(lines, ["2/2", "a", "b", "c", "d"], "{variables:?}");
    }
    // A run in a job of that run.
    let inner = "$EXITRING run -q -- sh -c '$EXITRING run -q -- echo ::: a b c d' ::: x";
    let lines = printed_by_a_job(inner, SECOND_OF_TWO[1]);
    assert_eq!(lines, ["a", "b", "c", "d"]);
}

#[test]
fn a_run_inside_a_job_has_the_part_that_its_option_selects() {
    for variables in SECOND_OF_TWO {
        let script =
            "$EXITRING run -q -j1 --shard 1/4 -- sh -c 'echo $0 $EXITRING_SHARD' ::: a b c d";
        let lines = printed_by_a_job(script, variables);
        assert_eq!(lines, ["a 1/4"], "{variables:?}");
    }
    for variables in &SECOND_OF_TWO[1..] {
        let script = "$EXITRING run -q --shard auto -- echo {} ::: a b c d";
        let lines = printed_by_a_job(script, variables);
        assert_eq!(lines, ["b", "d"], "{variables:?}");
    }
}
