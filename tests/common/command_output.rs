//! What a command prints.

use exitring::{Command, Stdio, Watcher};

use super::message;

/// The standard output of a shell script, which has to succeed.
#[track_caller]
pub fn output_of(script: &str, change: impl FnOnce(&mut Command)) -> String {
    let mut command = Command::new("sh");
    command.args(["-c", script]).stdout(Stdio::piped());
    change(&mut command);
    output(&mut command)
}

#[track_caller]
pub fn output(command: &mut Command) -> String {
    let watcher = Watcher::new().unwrap();
    let child = watcher
        .spawn(command)
        .unwrap_or_else(|error| panic!("{}", message(error)));
    let output = child.wait_with_output().unwrap();
    assert!(output.exit.success(), "{:?}", output);
    String::from_utf8(output.stdout).unwrap()
}
