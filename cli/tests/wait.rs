//! `exitring wait`.

mod common;

use std::process::{Child, Command, Stdio};
use std::thread;

use common::{Started, code, exitring, records, shell, std_exitring};

fn sleeper(seconds: &str) -> Child {
    Command::new("sleep").arg(seconds).spawn().expect("sleep")
}

fn pids(children: &[&Child]) -> Vec<String> {
    children
        .iter()
        .map(|child| child.id().to_string())
        .collect()
}

#[test]
fn the_status_of_a_foreign_child_is_reported_once_its_parent_has_reaped_it() {
    let mut child = Started::new(Command::new("sh").args(["-c", "sleep 0.3; exit 7"]));
    let pid = child.0.id().to_string();
    let mut command = std_exitring(["wait", "--jsonl", &pid]);
    let waiting = Started(command.stdout(Stdio::piped()).spawn().unwrap());
    let reap = thread::spawn(move || child.0.wait());
    let mut waiting = waiting;
    assert_eq!(waiting.code(), Some(0));
    reap.join().unwrap().unwrap();
    let text = common::read_all(waiting.0.stdout.take().unwrap());
    let records = records(&text);
    assert_eq!(records.len(), 1);
    assert_eq!(records[0]["pid"].to_string(), pid);
    match records[0]["outcome"].as_str() {
        // From Linux 6.15 on.
        Some("exited") => assert_eq!(records[0]["exit_code"], 7),
        Some("unknown") => assert!(records[0]["reason"].is_string()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_zombie_has_ended_with_an_unknown_status() {
    let child = Started::new(&mut Command::new("true"));
    let pid = child.0.id().to_string();
    let text = common::stdout(&mut exitring(["wait", &pid]));
    assert!(
        text.contains("has not reaped it") || text.contains("not a child"),
        "{text}"
    );
    assert_eq!(code(&mut exitring(["wait", &pid])), Some(0));
}

#[test]
fn the_status_of_children_inherited_by_an_exec_is_reported() {
    let output = shell("(sleep 0.1; exit 5) & exec $EXITRING wait $!")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("exited with code 5"), "{output:?}");
}

#[test]
fn any_ends_with_the_first_exit_and_all_with_the_last() {
    let (mut quick, slow) = (
        Started::new(Command::new("sleep").arg("0.2")),
        Started(sleeper("1000")),
    );
    let both = pids(&[&quick.0, &slow.0]);
    let waiting = thread::spawn({
        let both = both.clone();
        move || exitring(["wait", "--any"]).args(both).output().unwrap()
    });
    quick.0.wait().unwrap();
    let output = waiting.join().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(
        String::from_utf8_lossy(&output.stdout).starts_with(&both[0]),
        "{output:?}"
    );
    assert_eq!(
        code(exitring(["wait", "--timeout", "100ms"]).arg(&both[1])),
        Some(124)
    );
}

#[test]
fn a_timeout_lists_the_processes_that_still_run() {
    let slow = Started(sleeper("1000"));
    let output = exitring(["wait", "--timeout", "50ms"])
        .args(pids(&[&slow.0]))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(124));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("still running"),
        "{output:?}"
    );
}

#[test]
fn a_process_that_is_named_twice_is_reported_once() {
    let mut quick = Started::new(Command::new("sleep").arg("2"));
    let pid = quick.0.id().to_string();
    let waiting = thread::spawn(move || exitring(["wait", &pid, &pid, &pid]).output().unwrap());
    quick.0.wait().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&waiting.join().unwrap().stdout)
            .lines()
            .count(),
        1
    );
}

#[test]
fn pids_without_a_process_are_refused_with_a_reason() {
    let mut dead = sleeper("0");
    dead.wait().unwrap();
    let dead = dead.id().to_string();
    for (pid, expected, words) in [
        (dead.as_str(), 1, "no process has the pid"),
        ("0", 2, "is no process id"),
        ("-1", 2, "is no process id"),
        ("99999999999", 2, "no process has an id"),
        ("x", 2, "a process id is a positive number"),
    ] {
        let output = exitring(["wait", pid]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(expected), "{pid}: {text}");
        assert!(text.contains(words), "{pid}: {text}");
    }
    let own = shell("exec $EXITRING wait $$").output().unwrap();
    assert_eq!(own.status.code(), Some(2), "{own:?}");
    // Process 1 lives as long as this test.
    assert_eq!(
        code(&mut exitring(["wait", "--timeout", "50ms", "1"])),
        Some(124)
    );
}

#[test]
fn a_refused_pid_does_not_stop_the_wait_for_the_others() {
    let mut dead = sleeper("0");
    dead.wait().unwrap();
    let mut quick = Started::new(Command::new("sleep").arg("0.2"));
    let both = [dead.id().to_string(), quick.0.id().to_string()];
    let waiting = thread::spawn(move || exitring(["wait"]).args(both).output().unwrap());
    quick.0.wait().unwrap();
    let output = waiting.join().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 1);
}

#[test]
fn any_succeeds_with_one_exit_although_another_pid_is_refused() {
    let mut dead = sleeper("0");
    dead.wait().unwrap();
    let mut quick = Started::new(Command::new("sleep").arg("0.2"));
    let both = [dead.id().to_string(), quick.0.id().to_string()];
    let waiting = thread::spawn({
        let both = both.clone();
        move || {
            let mut command = exitring(["wait", "--any", "--jsonl"]);
            command.args(both).output().unwrap()
        }
    });
    quick.0.wait().unwrap();
    let output = waiting.join().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let records = records(&String::from_utf8(output.stdout).unwrap());
    let reported = |index: usize| {
        (
            records[index]["type"].as_str(),
            records[index]["pid"].to_string(),
        )
    };
    assert_eq!(reported(0), (Some("error"), both[0].clone()));
    assert!(records[0]["error"].as_str().unwrap().contains("no process"));
    assert_eq!(reported(1), (Some("exit"), both[1].clone()));
    assert_eq!(code(exitring(["wait", "--any"]).arg(&both[0])), Some(1));
}
