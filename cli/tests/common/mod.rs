//! Helpers of the tests, which run the binary as a user would.

#![allow(dead_code, missing_docs)]

pub mod html;
pub mod job_record;
pub mod terminal;

use std::fs;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command as Std, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use assert_cmd::Command;
use serde_json::Value;

/// The longest wait of a test. It bounds tests that would hang, and does not measure speed.
pub const TIMEOUT: Duration = Duration::from_secs(60);

pub const EXITRING: &str = env!("CARGO_BIN_EXE_exitring");

/// `exitring`, in an environment without variables that choose a shard.
pub fn exitring<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::from_std(std_exitring(arguments));
    command.timeout(TIMEOUT);
    command
}

/// The same as a standard command, for tests that need the child.
pub fn std_exitring<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Std {
    let mut command = Std::new(EXITRING);
    clean_environment(&mut command);
    command.args(arguments);
    command
}

/// A shell script, in which `$EXITRING` is the binary.
pub fn shell(script: &str) -> Command {
    let mut command = Std::new("bash");
    clean_environment(&mut command);
    command.args(["-c", script]).env("EXITRING", EXITRING);
    let mut command = Command::from_std(command);
    command.timeout(TIMEOUT);
    command
}

fn clean_environment(command: &mut Std) {
    for name in [
        "EXITRING_JOB",
        "EXITRING_SHARD",
        "EXITRING_SHARD_COUNT",
        "SLURM_PROCID",
        "SLURM_NTASKS",
        "SLURM_STEP_ID",
        "SLURM_ARRAY_TASK_ID",
        "JOB_COMPLETION_INDEX",
        "CI_NODE_INDEX",
        "CI_NODE_TOTAL",
        "CIRCLE_NODE_INDEX",
        "CIRCLE_NODE_TOTAL",
        "BUILDKITE_PARALLEL_JOB",
        "BUILDKITE_PARALLEL_JOB_COUNT",
        "CARGO_MAKEFLAGS",
        "MAKEFLAGS",
        "MFLAGS",
    ] {
        command.env_remove(name);
    }
}

pub fn code(command: &mut Command) -> Option<i32> {
    command.output().expect("runs").status.code()
}

pub fn stdout(command: &mut Command) -> String {
    String::from_utf8(command.output().expect("runs").stdout).expect("UTF-8")
}

pub fn stderr(command: &mut Command) -> String {
    String::from_utf8(command.output().expect("runs").stderr).expect("UTF-8")
}

/// Parses lines of JSON.
pub fn records(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// The records of finished jobs, in the order of their numbers.
pub fn jobs(text: &str) -> Vec<Value> {
    let mut jobs: Vec<_> = records(text)
        .into_iter()
        .filter(|record| record["type"] == "job")
        .collect();
    jobs.sort_by_key(|job| job["job"].as_u64());
    jobs
}

/// The numbers on the lines of a file, sorted; none if the file does not exist.
pub fn numbers(file: &Path) -> Vec<u64> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let mut numbers: Vec<_> = text
        .lines()
        .map(|line| line.parse().expect("a number"))
        .collect();
    numbers.sort_unstable();
    numbers
}

pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < TIMEOUT, "timeout: {what}");
        sleep(Duration::from_millis(5));
    }
}

/// Processes whose environment has this variable with this value: descendants of a job, also in
/// other groups and sessions. Zombies have no environment.
pub fn processes_marked(mark: &str) -> Vec<i32> {
    let marked = |pid: &i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment
            .split(|&byte| byte == 0)
            .any(|variable| variable == mark.as_bytes())
    };
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(marked)
        .collect()
}

/// A variable for the environment of a test's jobs, which identifies them and their descendants.
pub fn mark(name: &str) -> String {
    format!("EXITRING_TEST={name}-{}", std::process::id())
}

/// Waits until no marked process is left. They were killed, which takes a moment; by themselves
/// they would outlive the timeout.
pub fn gone(mark: &str) {
    wait_until("the end of all descendants", || {
        processes_marked(mark).is_empty()
    });
}

pub fn signal(child: &Child, signal: i32) {
    let pid = rustix::process::Pid::from_child(child);
    let signal = rustix::process::Signal::from_named_raw(signal).expect("a signal");
    rustix::process::kill_process(pid, signal).expect("it was not reaped");
}

/// Sends a further request to end, late enough after the last one to count as another.
pub fn signal_again(child: &Child, number: i32) {
    sleep(Duration::from_millis(1100));
    signal(child, number);
}

/// Lets a child have default dispositions, as from a terminal. A test that runs in the background of
/// a script, or under `nohup`, has signals ignored, and its children would inherit that.
pub fn reset_signals(command: &mut Std) {
    let reset = || {
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT] {
            // SAFETY: no handler is set, so that no function of this process can be called.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        Ok(())
    };
    // SAFETY: the closure makes system calls only.
    unsafe { command.pre_exec(reset) };
}

/// A child that is killed and reaped at the end of the test, also if the test fails.
pub struct Started(pub Child);

impl Started {
    /// Starts a child with default dispositions.
    pub fn new(command: &mut Std) -> Self {
        reset_signals(command);
        Self(command.stdin(Stdio::null()).spawn().expect("starts"))
    }

    /// Waits for the child to end. Returns its exit code, as a shell shows it.
    pub fn code(&mut self) -> Option<i32> {
        let mut status = None;
        wait_until("its end", || {
            status = self.0.try_wait().expect("waits");
            status.is_some()
        });
        let status = status?;
        status.code().or(status.signal().map(|signal| 128 + signal))
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reads a pipe to its end.
pub fn read_all(mut from: impl io::Read) -> String {
    let mut text = String::new();
    from.read_to_string(&mut text).expect("UTF-8");
    text
}

/// Whether GNU parallel is installed, and not the program of the same name in moreutils.
pub fn has_parallel() -> bool {
    let version = Command::new("parallel").arg("--version").output();
    let found = version.is_ok_and(|version| version.stdout.starts_with(b"GNU parallel"));
    if !found {
        eprintln!("not tested: GNU parallel is not installed");
    }
    found
}
