//! The slots of jobs, and the variables in their environment.

mod common;

use std::fs;

use common::{exitring, jobs, shell, stdout};

#[test]
fn no_two_running_jobs_share_a_slot_and_slots_are_used_again() {
    let dir = tempfile::tempdir().unwrap();
    // A job whose slot belongs to another one fails.
    let job = "mkdir slot-$1 && sleep 0.01 && [ $1 = $EXITRING_SLOT ] && rmdir slot-$1 && echo $1";
    let mut run = exitring(["run", "-q", "-j", "3", "--", "sh", "-c", job, "sh", "{%}"]);
    let run = run
        .args(["{}", ":::"])
        .args((1..=60).map(|n| n.to_string()));
    let output = run.current_dir(dir.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 60);
    assert!(
        text.lines().all(|slot| ["1", "2", "3"].contains(&slot)),
        "{text}"
    );
}

#[test]
fn the_lowest_free_slot_is_used() {
    // The first job runs until the others have ended one after the other.
    let job = "if [ $1 = 1 ]; then until [ -e 4 ]; do sleep 0.02; done; else touch $1; fi; echo $1 $EXITRING_SLOT";
    let dir = tempfile::tempdir().unwrap();
    let mut run = exitring(["run", "-q", "-j", "2", "--", "sh", "-c", job, "sh", "{}"]);
    let output = stdout(
        run.args([":::", "1", "2", "3", "4"])
            .current_dir(dir.path()),
    );
    let mut lines: Vec<_> = output.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["1 1", "2 2", "3 2", "4 2"]);
}

#[test]
fn the_environment_describes_the_job() {
    let variables = "echo $EXITRING_JOB $EXITRING_SLOT $EXITRING_ATTEMPT $EXITRING_SHARD; [ $EXITRING_ATTEMPT = 2 ]";
    let list = format!("{variables}\n").repeat(5);
    let mut run = exitring(["run", "-q", "-j1", "--retries", "1", "--shard", "2/3"]);
    let output = stdout(run.write_stdin(list));
    assert_eq!(output, "2 1 1 2/3\n2 1 2 2/3\n5 1 1 2/3\n5 1 2 2/3\n");
    let mut run = exitring(["run", "-q"]);
    let output = stdout(
        run.write_stdin("echo $EXITRING_SHARD $HOME\n")
            .env("HOME", "/x"),
    );
    assert_eq!(output, "1/1 /x\n", "other variables are inherited");
}

#[test]
fn a_command_with_its_slot_is_recorded_and_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let script = "$EXITRING run -q -j2 --output jsonl --joblog log $0 -- sh -c 'test $1 = x' sh {} {%} ::: x y";
    let run = |options: &str| {
        let output = shell(&script.replace("$0", options))
            .current_dir(dir.path())
            .output()
            .unwrap();
        (
            output.status.code(),
            jobs(&String::from_utf8(output.stdout).unwrap()),
        )
    };
    let (code, first) = run("");
    assert_eq!((code, first.len()), (Some(1), 2));
    for job in &first {
        let command = job["command"].as_str().unwrap();
        assert!(command.ends_with(" 1") || command.ends_with(" 2"), "{job}");
    }
    // The command is recognised, whatever its slot was.
    let (code, second) = run("--resume-failed");
    assert_eq!((code, second.len()), (Some(1), 1));
    assert_eq!(second[0]["command"], "sh -c 'test $1 = x' sh y 1");
    let log = fs::read_to_string(dir.path().join("log")).unwrap();
    assert_eq!(log.lines().count(), 3);
}
