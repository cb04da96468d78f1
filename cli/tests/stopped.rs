//! Jobs that are stopped.

mod common;

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;

use common::{Started, exitring, jobs, numbers, shell, signal, std_exitring, stdout, wait_until};

/// Stops itself, and cleans up when it receives SIGTERM.
const STOPPED: &str = "trap 'touch cleaned; exit 0' TERM; echo 1 >> begun; kill -STOP $$; while :; do sleep 0.02; done\n";

fn cleaned(dir: &Path) -> bool {
    dir.join("cleaned").exists()
}

#[test]
fn a_stopped_job_is_reported_once_and_ends_at_an_interrupt() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("list"), STOPPED).unwrap();
    let mut command = std_exitring(["run", "--grace", "1h", "list"]);
    command.current_dir(dir.path()).stdout(Stdio::null());
    command.stderr(File::create(dir.path().join("err")).unwrap());
    let mut run = Started::new(&mut command);
    let text = || fs::read_to_string(dir.path().join("err")).unwrap();
    wait_until("the report", || {
        text().contains("job 1 is stopped (SIGSTOP)")
    });
    signal(&run.0, libc::SIGTERM);
    assert_eq!(run.code(), Some(130));
    assert!(cleaned(dir.path()));
    assert_eq!(text().matches("is stopped").count(), 1);
}

#[test]
fn a_stopped_job_ends_at_its_timeout() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = exitring(["run", "--timeout", "300ms", "--grace", "1h"]);
    let output = command.write_stdin(STOPPED).current_dir(dir.path());
    assert_eq!(output.output().unwrap().status.code(), Some(1));
    assert!(cleaned(dir.path()));
}

#[test]
fn stopped_fail_ends_a_stopped_job_and_records_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = [
        "run",
        "--stopped",
        "fail",
        "--grace",
        "1h",
        "--output",
        "jsonl",
    ];
    let mut command = exitring(arguments);
    let text = stdout(command.write_stdin(STOPPED).current_dir(dir.path()));
    assert!(cleaned(dir.path()));
    let job = &jobs(&text)[0];
    let flags = ["success", "timed_out", "interrupted"].map(|name| job[name] == true);
    assert_eq!(flags, [false; 3], "{text}");
    assert_eq!(job["reason"], "stopped by SIGSTOP");
    assert_eq!(numbers(&dir.path().join("begun")).len(), 1);
}

#[test]
fn stopped_foreground_requires_one_job_at_a_time() {
    for jobs in [&["-j", "2"][..], &[]] {
        let arguments = ["run", "--stopped", "foreground"].iter().chain(jobs);
        let output = exitring(arguments.copied()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains("remedy: add -j 1"), "{text}");
    }
}

#[test]
fn without_a_terminal_stopped_jobs_are_reported() {
    let dir = tempfile::tempdir().unwrap();
    let list = "kill -STOP $$; echo on\n";
    fs::write(dir.path().join("list"), list).unwrap();
    let script = "setsid -w $EXITRING run -j 1 --stopped foreground list 2> err &
        until grep -q 'is stopped (SIGSTOP)' err; do sleep 0.05; done
        kill -CONT -- -$(grep -o 'kill -CONT -- -[0-9]*' err | grep -o '[0-9]*$')
        wait $!";
    let mut command = shell(script);
    assert_eq!(stdout(command.current_dir(dir.path())), "on\n");
    let text = fs::read_to_string(dir.path().join("err")).unwrap();
    assert!(text.contains("no controlling terminal"), "{text}");
}
