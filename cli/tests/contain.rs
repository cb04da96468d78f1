//! Containment: jobs in cgroups of their own (`--contain`).

mod common;

use std::fs;
use std::path::Path;

use common::{
    Started, exitring, gone, jobs, mark, processes_marked, signal, std_exitring, wait_until,
};

/// A daemon in a session of its own, whose parent has ended, and that ignores SIGTERM.
const DAEMON: &str =
    "setsid sh -c 'trap \"\" TERM; sleep 1000; sleep 1000' </dev/null >/dev/null 2>&1 & sleep 0.1";

/// Whether jobs can be contained here. In CI they must be.
fn is_possible() -> bool {
    let output = exitring(["run", "--contain", "-q", "--", "true", ":::", "x"])
        .output()
        .unwrap();
    let possible = output.status.success();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    if !possible {
        assert!(std::env::var_os("CI").is_none(), "CI needs cgroups: {text}");
        assert!(text.contains("jobs cannot be contained"), "{text}");
        println!("not run: {text}");
    }
    possible
}

/// The directories of pools in the cgroup of this process.
fn pools() -> Vec<String> {
    let group = exitring::Cgroup::find().expect("a cgroup");
    let entries = fs::read_dir(group.path()).expect("it is listed").flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("exitring-")).collect()
}

fn with_mark(arguments: &[&str], mark: &str) -> assert_cmd::Command {
    let (name, value) = mark.split_once('=').unwrap();
    let mut command = exitring(arguments.iter().copied());
    command.env(name, value);
    command
}

#[test]
fn what_a_job_leaves_is_killed_and_reported() {
    if !is_possible() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let mark = mark("leaky");
    let arguments = ["run", "--contain", "--output", "jsonl", "--joblog", "log"];
    let output = with_mark(&arguments, &mark)
        .current_dir(dir.path())
        .write_stdin(format!("{DAEMON}\ntrue\nsleep 1000 & exit 0\nexit 3\n"))
        .output()
        .unwrap();
    // The run does not end before them.
    assert_eq!(processes_marked(&mark), Vec::<i32>::new());
    assert_eq!(output.status.code(), Some(1));
    let stdout = String::from_utf8(output.stdout).unwrap();
    for text in [stdout, fs::read_to_string(log).unwrap()] {
        let jobs = jobs(&text);
        let left = |job: usize| (jobs[job]["leaky"].clone(), jobs[job]["success"].clone());
        assert_eq!(left(0), (true.into(), true.into()));
        assert_eq!(left(1), (false.into(), true.into()));
        assert_eq!(left(2), (true.into(), true.into()));
        assert_eq!(left(3), (false.into(), false.into()));
        assert!(
            jobs[0]["leftover_processes"].as_u64() >= Some(1),
            "{jobs:?}"
        );
        assert_eq!(jobs[1]["leftover_processes"], 0);
        assert_eq!(jobs[0]["out_of_memory"], false);
    }
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("job 3 left a process behind, which is killed: "),
        "{stderr}"
    );
    assert!(stderr.contains("2 left processes behind"), "{stderr}");
    assert!(!stderr.contains("job 2 left"), "{stderr}");
}

#[test]
fn a_job_that_leaves_processes_fails_if_asked_for() {
    if !is_possible() {
        return;
    }
    let arguments = ["run", "--fail-leaky", "--retries", "1", "--output", "jsonl"];
    let output = exitring(arguments)
        .write_stdin("sleep 1000 & exit 0\ntrue\n")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let jobs = jobs(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(
        (&jobs[0]["success"], &jobs[0]["attempts"]),
        (&false.into(), &2.into())
    );
    assert_eq!(
        (&jobs[0]["exit_code"], &jobs[0]["leaky"]),
        (&0.into(), &true.into())
    );
    assert_eq!(jobs[1]["success"], true);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("job 1: left processes behind, exit code 0"),
        "{stderr}"
    );
}

#[test]
fn jobs_without_the_option_have_no_such_fields_and_keep_their_daemons() {
    let mark = mark("free");
    let output = with_mark(&["run", "--output", "jsonl"], &mark)
        .write_stdin("sleep 1000 </dev/null >/dev/null 2>&1 & exit 0\n")
        .output()
        .unwrap();
    let jobs = jobs(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(jobs[0].get("leaky"), None);
    let left = processes_marked(&mark);
    assert_eq!(left.len(), 1);
    let daemon = rustix::process::Pid::from_raw(left[0]).unwrap();
    rustix::process::kill_process(daemon, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn a_timeout_kills_daemons_as_well() {
    if !is_possible() {
        return;
    }
    let mark = mark("timeout");
    let arguments = [
        "run",
        "--contain",
        "--timeout",
        "500ms",
        "--grace",
        "300ms",
        "--output",
        "jsonl",
    ];
    // The second one ends at SIGTERM, and only the daemon is left then.
    let output = with_mark(&arguments, &mark)
        .write_stdin(format!(
            "trap '' TERM; {DAEMON}; sleep 1000; sleep 1000\n{DAEMON}; exec sleep 1000\n"
        ))
        .output()
        .unwrap();
    assert_eq!(processes_marked(&mark), Vec::<i32>::new());
    let jobs = jobs(&String::from_utf8(output.stdout).unwrap());
    for job in &jobs {
        // It has left nothing by itself.
        assert_eq!(
            (&job["timed_out"], &job["leaky"]),
            (&true.into(), &false.into())
        );
    }
    assert_eq!(jobs.len(), 2);
}

#[test]
fn the_group_of_a_contained_job_keeps_its_grace() {
    if !is_possible() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // The job's process ends at SIGTERM. Another one of its group cleans up.
    let list = "sh -c 'trap \"sleep 0.3; echo > cleaned; exit\" TERM; echo > up; while :; do sleep 0.05; done' & exec sleep 1000\n";
    let mut command = std_exitring(["run", "--contain", "-q", "--grace", "60s"]);
    fs::write(dir.path().join("list"), list).unwrap();
    let mut run = Started::new(command.arg("list").current_dir(dir.path()));
    wait_until("the job runs", || dir.path().join("up").exists());
    signal(&run.0, libc::SIGTERM);
    assert_eq!(run.code(), Some(130));
    assert!(dir.path().join("cleaned").exists());
}

/// Starts a run whose job leaves a daemon, and waits until both run.
fn start(arguments: &[&str], dir: &Path, mark: &str, list: &str) -> Started {
    fs::write(dir.join("list"), list).unwrap();
    let (name, value) = mark.split_once('=').unwrap();
    let mut command = std_exitring(arguments.iter().copied());
    let run = Started::new(command.arg("list").env(name, value).current_dir(dir));
    wait_until("the job runs", || dir.join("up").exists());
    run
}

#[test]
fn an_interrupt_kills_daemons_as_well() {
    if !is_possible() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mark = mark("interrupt");
    let list = format!("{DAEMON}; echo > up; exec sleep 1000\n");
    let arguments = ["run", "--contain", "-q", "--grace", "60s"];
    let mut run = start(&arguments, dir.path(), &mark, &list);
    signal(&run.0, libc::SIGINT);
    // The daemon never got SIGTERM. Nothing waits for the end of its grace.
    assert_eq!(run.code(), Some(130));
    gone(&mark);
}

#[test]
fn a_halt_kills_daemons_as_well() {
    if !is_possible() {
        return;
    }
    let mark = mark("halt");
    let dir = tempfile::tempdir().unwrap();
    let list = format!(
        "{DAEMON}; echo > up; exec sleep 1000\nwhile ! [ -e up ]; do sleep 0.01; done; exit 1\n"
    );
    let arguments = ["run", "--contain", "-q", "-j2", "--halt", "now,fail=1"];
    let mut run = start(&arguments, dir.path(), &mark, &list);
    assert_eq!(run.code(), Some(1));
    assert_eq!(processes_marked(&mark), Vec::<i32>::new());
}

#[test]
fn cgroups_are_removed_at_the_end() {
    if !is_possible() {
        return;
    }
    let mut command = std_exitring(["run", "--contain", "-q", "-j4"]);
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("list"), "sleep 1000 & exit 0\n".repeat(20)).unwrap();
    let mut run = Started::new(command.arg("list").current_dir(dir.path()));
    let pid = run.0.id();
    assert_eq!(run.code(), Some(0));
    let own = format!("exitring-{pid}-");
    let left: Vec<_> = pools()
        .into_iter()
        .filter(|pool| pool.starts_with(&own))
        .collect();
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn limits_need_their_controllers() {
    for (limit, value, controller) in [
        ("--memory", "512M", "memory"),
        ("--pids", "100", "pids"),
        ("--cpus", "0.5", "cpu"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let output = exitring([
            "run",
            "-q",
            limit,
            value,
            "--",
            "sh",
            "-c",
            "echo > ran",
            ":::",
            "x",
        ])
        .current_dir(dir.path())
        .output()
        .unwrap();
        let ran = dir.path().join("ran").exists();
        let text = String::from_utf8_lossy(&output.stderr);
        if ran {
            assert_eq!(output.status.code(), Some(0), "{text}");
            continue;
        }
        // This machine does not have the controller, or a group of its own for the run.
        assert_eq!(output.status.code(), Some(3), "{text}");
        assert!(text.contains("jobs cannot be contained"), "{text}");
        let available = exitring::Cgroup::find().and_then(|group| group.controllers());
        if let Ok(available) = available
            && !available.iter().any(|name| name == controller)
        {
            assert!(
                text.contains(&format!("the controller {controller}")),
                "{text}"
            );
            assert!(text.contains("Delegate=yes exitring run"), "{text}");
        }
    }
}

#[test]
fn invalid_limits_are_refused() {
    for words in [
        ["--memory", "0"],
        ["--memory", "512MB"],
        ["--memory", "50%"],
        ["--memory", "x"],
        ["--pids", "0"],
        ["--pids", "1k"],
        ["--cpus", "0"],
        ["--cpus", "200%"],
    ] {
        let output = exitring(["run", words[0], words[1], "--", "true"])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{words:?}");
    }
}
