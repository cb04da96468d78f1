//! Tests that change or inspect a whole process, and therefore run in a process of their own.

use std::process::{Command, Output, Stdio};

/// Set where [`run_in_own_process`] runs a test.
const OWN_PROCESS: &str = "EXITRING_TEST_OWN_PROCESS";

/// Whether this process runs one test, started by [`run_in_own_process`].
pub fn in_own_process() -> bool {
    std::env::var_os(OWN_PROCESS).is_some()
}

/// Runs one test of this test binary in a process of its own, where [`in_own_process`] is true, and
/// fails if the test fails.
#[track_caller]
pub fn run_in_own_process(test: &str, prepare: impl FnOnce(&mut Command)) {
    let output = output_of_test(test, prepare);
    assert!(
        output.status.success(),
        "{test} in its own process: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    // A misspelt name would run no test, successfully.
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("1 passed"),
        "{test} was not run"
    );
}

/// Runs one test like [`run_in_own_process`], whether it passes or not.
pub fn output_of_test(test: &str, prepare: impl FnOnce(&mut Command)) -> Output {
    let mut command = Command::new(std::env::current_exe().expect("this binary has a path"));
    command
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(OWN_PROCESS, "1")
        .stdin(Stdio::null());
    prepare(&mut command);
    command.output().expect("the test binary starts")
}
