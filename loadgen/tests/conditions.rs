//! Exit codes: `--fail-if`, usage errors and interrupts.

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Scratch, loadgen, read_json, text};
use rustix::process::{Pid, Signal, kill_process};

#[test]
fn a_condition_that_holds_fails_the_run() {
    for (condition, code) in [
        ("lost>0", 0),
        ("exits", 2),
        ("p50>1ns", 1),
        ("p50>1000s", 0),
        ("fds>1", 1),
        // Too few samples: a metric that is not known counts as a failure.
        ("p99.9>1000s", 1),
        ("tokio:p50>1s", 2),
        ("nobody:p50>1s", 2),
    ] {
        let output = loadgen(&["storm", "--children", "100", "--fail-if", condition]);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{condition}: {stderr}");
        if code == 1 {
            assert!(stderr.contains(condition), "{stderr}");
        }
    }
    let output = loadgen(&[
        "storm",
        "--children",
        "100",
        "--with",
        "wait-loop,exitring",
        "--fail-if",
        "exitring:fds>0",
    ]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_condition_fails_for_a_size_in_which_its_contestant_is_absent() {
    // The Shadow design needs a descriptor for each child.
    let scale = [
        "scale",
        "--sizes",
        "20,400",
        "--rate",
        "100",
        "--duration",
        "0.2",
        "--with",
        "exitring,shadow",
    ];
    for (condition, code) in [("exitring:lost>0", 0), ("shadow:lost>0", 1)] {
        let output = Command::new("sh")
            .args(["-c", "ulimit -n 256 && exec \"$0\" \"$@\""])
            .arg(env!("CARGO_BIN_EXE_loadgen"))
            .args(scale)
            .args(["--fail-if", condition])
            .output()
            .expect("sh starts");
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{condition}: {stderr}");
        let absent = stderr.contains("shadow made no run with 400 live children");
        assert_eq!(absent, code == 1, "{stderr}");
    }
}

#[test]
fn impossible_requests_are_usage_errors() {
    for (arguments, why) in [
        (&["storm", "--with", "nobody"][..], "nobody"),
        (&["storm", "--with", "tokio,tokio"], "twice"),
        (
            &["compare", "register", "--with", "tokio,async-process"],
            "no contestant can take part",
        ),
        (&["steady", "--duration=-1"], "no exit at all"),
        (
            &["steady", "--live", "10", "--rate", "1", "--duration", "0.1"],
            "no exit at all",
        ),
        (
            &["steady", "--rate", "1000000", "--duration", "1000"],
            "too many",
        ),
        (&["churn", "--duration", "0"], "--duration"),
        (&["storm", "--repeat", "0"], "--repeat"),
        (&["storm", "--until-width", "5"], "--until-width"),
        (&["storm", "--until-width", "0%"], "--until-width"),
        (
            &["storm", "--until-width", "5%"],
            "something to compare with",
        ),
        (&["storm", "--max-rounds", "50"], "--until-width"),
        (
            &["storm", "--until-width", "5%", "--max-rounds", "5"],
            "--max-rounds",
        ),
        (
            &["storm", "--until-width", "5%", "--repeat", "41"],
            "more than --max-rounds 40",
        ),
        (&["storm", "--baseline", "../x"], "--baseline"),
        (
            &["storm", "--baseline", "x", "--against", "y"],
            "cannot be used with",
        ),
        (&["--repeat", "3"], "a command is missing"),
        (
            &["storm", "--fail-if", "ratio-low<1"],
            "the first contestant is the reference",
        ),
        (
            &["storm", "--fail-if", "exitring:ratio>1.1"],
            "the first contestant is the reference",
        ),
        (
            &[
                "storm",
                "--with",
                "exitring,shadow",
                "--repeat",
                "5",
                "--fail-if",
                "shadow:ratio-low<1",
            ],
            "an interval needs 6 rounds",
        ),
        (&["soak", "--with", "tokio"], "only exitring"),
        (&["scale", "--live", "5"], "--sizes"),
        (&["scale", "--sizes", "5,20,5"], "names 5 twice"),
        (
            &["storm", "--children", "20000", "--with", "shadow"],
            "descriptors",
        ),
    ] {
        // A fixed limit, so that the test does not depend on the limit of its user.
        let output = Command::new("sh")
            .args(["-c", "ulimit -n 4096 && exec \"$0\" \"$@\""])
            .arg(env!("CARGO_BIN_EXE_loadgen"))
            .args(arguments)
            .output()
            .expect("sh starts");
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(why), "{arguments:?}: {stderr}");
    }
}

#[test]
fn a_soak_accounts_for_every_exit() {
    let scratch = Scratch::new("soak");
    let (_, json) = common::measure(
        &scratch,
        &["soak", "--exits", "2000", "--concurrency", "64"],
    );
    common::assert_fits_the_schema(&json);
    let soak = &json["runs"][0]["soak"];
    let acts = soak["acts"].as_object().expect("acts");
    // Without a delegated cgroup, two things are missing, and the reason is known.
    let without_cgroups = usize::from(soak["without_cgroups"].is_string());
    assert_eq!(acts.len(), 21 - without_cgroups, "{acts:?}");
    let count = |act: &str| acts[act].as_u64().expect("a number");
    let all: u64 = acts.keys().map(|act| count(act)).sum();
    let without_exit = count("command refused") + count("future dropped");
    assert_eq!(all - without_exit, 2000);
    let attributes = soak["attributes"].as_object().expect("attributes");
    let without_user = usize::from(!attributes.contains_key("user"));
    assert_eq!(
        attributes.len(),
        16 - without_cgroups - without_user,
        "{attributes:?}"
    );
    assert!(soak["orphans"].as_u64() > Some(0), "{soak}");
    for left in ["processes", "zombies", "cgroups", "descriptors"] {
        assert_eq!(soak["left"][left], 0, "{left}");
    }
    assert!(
        soak["samples"]
            .as_array()
            .is_some_and(|samples| samples.len() >= 10)
    );
}

/// All descendants of a process: the processes of runs, and their children.
fn descendants(of: u32) -> Vec<u32> {
    let output = Command::new("ps")
        .args(["-eo", "pid=,ppid="])
        .output()
        .expect("ps runs");
    let pairs: Vec<(u32, u32)> = text(&output.stdout)
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
        })
        .collect();
    let mut found = vec![of];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(
            pairs
                .iter()
                .filter(|pair| pair.1 == parent)
                .map(|pair| pair.0),
        );
        next += 1;
    }
    found.split_off(1)
}

#[test]
fn ctrl_c_ends_all_children_and_writes_the_results_so_far() {
    let scratch = Scratch::new("interrupt");
    let path = scratch.file("result.json");
    for signal in [Signal::INT, Signal::TERM] {
        let arguments = [
            "steady",
            "--live",
            "50",
            "--rate",
            "100",
            "--duration",
            "60",
            "--repeat",
            "2",
            "--json",
        ];
        let mut child = Command::new(env!("CARGO_BIN_EXE_loadgen"))
            .args(arguments)
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("loadgen starts");
        let mut stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        let mut line = String::new();
        stderr.read_line(&mut line).expect("a line of progress");
        assert!(line.starts_with("1/2 steady"), "{line}");
        // All 6,000 planned and 50 live children exist, and the first have exited.
        let start = Instant::now();
        let mut most = 0;
        while most < 6050 || descendants(child.id()).len() + 20 > most {
            most = most.max(descendants(child.id()).len());
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "at most {most} came"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        let all = descendants(child.id());
        let pid = Pid::from_raw(child.id() as i32).expect("not 0");
        kill_process(pid, signal).expect("it is alive");
        let status = child.wait().expect("it is ours");
        assert_eq!(status.code(), Some(130));
        let json = read_json(&path);
        assert_eq!(json["interrupted"], true);
        let run = &json["runs"][0];
        assert_eq!(
            (&run["interrupted"], &run["lost"]),
            (&true.into(), &0.into())
        );
        assert!(run["exits"].as_u64() > Some(10), "{}", run["exits"]);
        assert!(run["exits"].as_u64() < Some(6000));

        // They get SIGKILL when their parent ends; their new parent reaps them.
        let is_loadgen = |pid: &&u32| {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
            let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            name.is_ok_and(|name| name.trim() == "loadgen") && !status.contains(") Z ")
        };
        let start = Instant::now();
        while all.iter().filter(is_loadgen).count() > 0 {
            assert!(start.elapsed() < Duration::from_secs(10), "some live on");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
