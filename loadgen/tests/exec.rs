//! Scenarios whose children execute a program: `churn --exec` and `capture`.

mod common;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Scratch, loadgen, measure, starters, text};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn names(list: &Value) -> Vec<&str> {
    let list = list.as_array().expect("a list").iter();
    list.filter_map(|entry| entry["contestant"].as_str())
        .collect()
}

#[test]
fn exitring_churns_through_executed_children() {
    let scratch = Scratch::new("exec-churn");
    let arguments = [
        "churn",
        "--exec",
        "--duration",
        "0.2",
        "--concurrency",
        "4",
        "--live",
        "3",
    ];
    let (table, json) = measure(&scratch, &arguments);
    assert_eq!(json["scenario"], "churn-exec");
    let run = &json["runs"][0];
    assert!(run["children_per_s"].as_f64() > Some(0.0), "{run}");
    assert!(run["switches_per_exit"].as_f64() > Some(0.0), "{run}");
    // The latency is from the call that starts the child.
    assert_eq!(run["latency_ns"]["samples"], run["exits"]);
    assert!(run["program"].is_string(), "{run}");
    assert!(table.contains("switches per exit"), "{table}");
}

#[test]
fn exitring_captures_the_output_of_children() {
    let scratch = Scratch::new("exec-capture");
    let arguments = ["capture", "--duration", "0.2", "--concurrency", "2"];
    let (_, json) = measure(&scratch, &arguments);
    let run = &json["runs"][0];
    assert!(run["exits"].as_u64() > Some(0), "{run}");
    assert_eq!(run["latency_ns"]["samples"], run["exits"]);
}

#[test]
fn a_load_of_any_duration_has_a_child() {
    let scratch = Scratch::new("exec-short");
    for scenario in [&["churn"][..], &["churn", "--exec"], &["capture"]] {
        let arguments = [scenario, &["--duration", "0.000001"]].concat();
        let (_, json) = measure(&scratch, &arguments);
        assert_eq!(json["runs"][0]["exits"], 1, "{scenario:?}");
    }
}

#[test]
fn a_program_of_the_user_may_write_to_standard_output() {
    let scratch = Scratch::new("exec-program");
    let arguments = [
        "churn",
        "--exec",
        "--program",
        "pwd",
        "--duration",
        "0.1",
        "--concurrency",
        "2",
    ];
    let (_, json) = measure(&scratch, &arguments);
    let program = json["runs"][0]["program"].as_str();
    assert!(program.is_some_and(|program| program.ends_with("/pwd")));

    for (program, why) in [
        ("/nowhere", "/nowhere"),
        ("false", "instead of exit code 0"),
    ] {
        let output = loadgen(&["churn", "--exec", "--program", program]);
        assert_eq!(output.status.code(), Some(2));
        let stderr = text(&output.stderr);
        assert!(stderr.contains(why), "{stderr}");
    }
    let output = loadgen(&["churn", "--program", "true"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--exec"));
}

/// The number of processes that run `sleep` for a time that no other process has.
fn sleepers(seconds: &str) -> usize {
    let processes = std::fs::read_dir("/proc")
        .expect("there is /proc")
        .flatten();
    // Other entries are no processes, and a process may end meanwhile.
    let lines = processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    let words = format!("sleep\0{seconds}\0");
    lines.filter(|line| line == words.as_bytes()).count()
}

#[test]
fn what_children_leave_is_ended_with_the_run() {
    let scratch = Scratch::new("exec-left");
    let seconds = format!("100.{}1", std::process::id());
    // It leaves the session, and has another parent when the child has ended.
    let script = format!("setsid sleep {seconds} </dev/null >/dev/null 2>&1 &\n");
    let program = scratch.script("program", &script);
    let churn = ["churn", "--exec", "--program", &program];
    let load = ["--duration", "0.1", "--concurrency", "2"];
    measure(&scratch, &[churn, load].concat());
    assert_eq!(sleepers(&seconds), 0);
}

#[test]
fn ctrl_c_ends_children_that_execute_a_program() {
    let scratch = Scratch::new("exec-interrupt");
    let seconds = format!("100.{}2", std::process::id());
    // The first execution is the check of the program.
    let once = scratch.file("checked");
    let script = format!("[ -e {once} ] && exec sleep {seconds}\n: > {once}\n");
    let program = scratch.script("program", &script);
    let mut child = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["churn", "--exec", "--concurrency", "3", "--program"])
        .arg(&program)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("loadgen starts");
    let start = Instant::now();
    while sleepers(&seconds) < 3 {
        assert!(start.elapsed() < Duration::from_secs(60), "none came");
        std::thread::sleep(Duration::from_millis(10));
    }
    let pid = Pid::from_raw(child.id() as i32).expect("not 0");
    kill_process(pid, Signal::INT).expect("it is alive");
    assert_eq!(child.wait().expect("it is ours").code(), Some(130));
    assert_eq!(sleepers(&seconds), 0);
}

#[test]
fn every_contestant_in_rust_churns_through_executed_children() {
    let scratch = Scratch::new("exec-compare-churn");
    let arguments = [
        "compare",
        "churn",
        "--exec",
        "--duration",
        "0.1",
        "--concurrency",
        "4",
        "--live",
        "5",
        "--repeat",
        "1",
    ];
    let (_, json) = measure(&scratch, &arguments);
    let took_part = names(&json["runs"]);
    let others = ["exitring", "exitring-watch", "shadow", "tokio", "wait-loop"];
    for name in starters(&json).into_iter().chain(others) {
        assert!(took_part.contains(&name), "{name}: {}", json["absent"]);
    }
    assert_eq!(took_part.last(), Some(&"posix-spawn"));
}

#[test]
fn contestants_that_read_no_output_are_absent_from_capture() {
    let scratch = Scratch::new("exec-compare-capture");
    let arguments = [
        "compare",
        "capture",
        "--duration",
        "0.1",
        "--concurrency",
        "2",
        "--repeat",
        "1",
    ];
    let (table, json) = measure(&scratch, &arguments);
    let mut expected = vec![
        "exitring",
        "exitring-inline",
        "exitring-no-usage",
        "exitring-epoll",
    ];
    expected.extend(starters(&json));
    expected.extend(["tokio", "async-process", "posix-spawn"]);
    assert_eq!(names(&json["runs"]), expected);
    assert!(names(&json["absent"]).contains(&"shadow"));
    assert!(table.contains("no way to read output"), "{table}");
}

#[test]
fn contestants_that_start_programs_take_part_only_where_children_execute_some() {
    for (contestant, why) in [
        ("posix-spawn", "only starts programs"),
        ("exitring-std", "only in the start of programs"),
        ("exitring-pre-exec", "only in the start of programs"),
        ("exitring-cgroup", "only in the start of programs"),
        ("std-spawn", "one child at a time"),
    ] {
        let output = loadgen(&["storm", "--with", contestant]);
        assert_eq!(output.status.code(), Some(2));
        let stderr = text(&output.stderr);
        assert!(stderr.contains(why), "{stderr}");
    }
    let output = loadgen(&["churn", "--exec", "--with", "std-spawn"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("one child at a time"));
}

#[test]
fn contestants_in_other_languages_execute_children_if_they_can_be_made() {
    let scratch = Scratch::new("exec-external");
    for name in ["python-asyncio", "node", "go", "libuv", "sd-event"] {
        for scenario in [
            &["churn", "--exec", "--duration", "0.1", "--concurrency", "4"][..],
            &["spawn", "--live", "3", "--spawns", "5", "--turns", "1"],
            &["storm", "--children", "10"],
            &["capture", "--duration", "0.1", "--concurrency", "2"],
        ] {
            if (name, scenario[0]) == ("sd-event", "capture") {
                continue;
            }
            let arguments = [scenario, &["--with", name]].concat();
            let output = loadgen(&arguments);
            let stderr = text(&output.stderr);
            let absent = ["is not installed", "cannot be compiled"];
            if output.status.code() == Some(2) && absent.iter().any(|why| stderr.contains(why)) {
                assert!(stderr.contains("install"), "{stderr}");
                break;
            }
            measure(&scratch, &arguments);
        }
    }
}
