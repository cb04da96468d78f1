//! `exitring` as process 1 of a container.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{EXITRING, Started, wait_until};
use tempfile::TempDir;

/// `exitring` as process 1 of a new pid namespace; `None` where namespaces are not permitted.
fn in_namespace(words: &[&str], directory: &Path) -> Option<Command> {
    let unshare = ["--pid", "--fork", "--kill-child", "--mount-proc"];
    let root = rustix::process::geteuid().is_root();
    let user: &[&str] = if root {
        &[]
    } else {
        &["--user", "--map-root-user"]
    };
    let tried = Command::new("unshare")
        .args(user)
        .args(unshare)
        .arg("true")
        .stderr(Stdio::null())
        .status();
    if !tried.is_ok_and(|status| status.success()) {
        assert!(
            std::env::var_os("CI").is_none(),
            "CI must permit pid namespaces"
        );
        eprintln!("not run: pid namespaces are not permitted");
        return None;
    }
    let mut command = Command::new("unshare");
    command.args(user).args(unshare).arg(EXITRING).args(words);
    command.current_dir(directory).stdin(Stdio::null());
    Some(command)
}

fn list(directory: &Path, lines: &str) {
    fs::write(directory.join("list"), lines).expect("it can be written");
}

fn children(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.unwrap_or_default();
    let pids = children.split_whitespace().map(str::parse);
    pids.collect::<Result<_, _>>().expect("numbers")
}

/// The pid of process 1 outside of the namespace, once it has a child.
fn process_1_of(unshare: &Started) -> u32 {
    let mut first = None;
    wait_until("process 1 has a child", || {
        first = children(unshare.0.id()).first().copied();
        first.is_some_and(|first| !children(first).is_empty())
    });
    first.expect("it is there")
}

fn send(pid: u32, signal: i32) {
    let pid = rustix::process::Pid::from_raw(pid as i32).expect("it is one");
    let signal = rustix::process::Signal::from_named_raw(signal).expect("a signal");
    rustix::process::kill_process(pid, signal).expect("it lives");
}

#[test]
fn orphans_are_reaped() {
    let directory = TempDir::new().expect("a directory can be made");
    // The last job waits until there is no zombie. Without a reaper they would stay.
    let orphans = "sh -c '(true &); true'\n".repeat(50);
    let zombies = "grep -lsE '^State:.Z' /proc/[0-9]*/status";
    let look = format!(
        "n=0; while {zombies} >&2 && [ $n -lt 600 ]; do n=$((n+1)); sleep 0.1; done; ! {zombies}\n"
    );
    list(directory.path(), &(orphans + &look));
    let Some(mut command) = in_namespace(&["run", "-j1", "-q", "list"], directory.path()) else {
        return;
    };
    let output = command.output().expect("it starts");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn it_exits_with_the_exit_code_of_the_command() {
    let directory = TempDir::new().expect("a directory can be made");
    list(directory.path(), "exit 3\n");
    let code = |lines: &str| {
        list(directory.path(), lines);
        let mut command = in_namespace(&["run", "-q", "list"], directory.path())?;
        let status = command.stderr(Stdio::null()).status().expect("it starts");
        Some(status.code())
    };
    let Some(failed) = code("exit 3\n") else {
        return;
    };
    assert_eq!(failed, Some(1));
    assert_eq!(code("true\n"), Some(Some(0)));
    // The command itself is killed.
    assert_eq!(code("kill -KILL $PPID; sleep 1000\n"), Some(Some(128 + 9)));
}

#[test]
fn signals_to_process_1_reach_the_command() {
    let directory = TempDir::new().expect("a directory can be made");
    list(
        directory.path(),
        "trap 'echo ended > trapped; exit 0' TERM; echo > up; sleep 1000 & wait\n",
    );
    let Some(mut command) = in_namespace(&["run", "-q", "list"], directory.path()) else {
        return;
    };
    let mut unshare = Started::new(command.stderr(Stdio::null()));
    wait_until("the job runs", || directory.path().join("up").exists());
    send(process_1_of(&unshare), libc::SIGTERM);
    // The exit code of an interrupted run.
    assert_eq!(unshare.code(), Some(130));
    assert!(directory.path().join("trapped").exists());
}

#[test]
#[cfg(feature = "serve")]
fn a_service_reexecutes_itself_on_a_signal_to_process_1_and_stays_its_child() {
    let directory = TempDir::new().expect("a directory can be made");
    let words = ["serve", "--socket", "socket", "--state", "state"];
    let Some(mut command) = in_namespace(&words, directory.path()) else {
        return;
    };
    let mut unshare = Started::new(command.stderr(Stdio::piped()));
    let connect = || exitring_protocol::Client::connect(directory.path().join("socket"), None);
    wait_until("it answers", || connect().is_ok());
    let first = process_1_of(&unshare);
    let service = children(first);
    let mut client = connect().expect("it answers");
    send(first, libc::SIGUSR2);
    wait_until("the old image's connection ends", || {
        client
            .ask(exitring_protocol::Request::Stats(Default::default()))
            .is_err()
    });
    wait_until("it answers", || connect().is_ok());
    assert_eq!(children(first), service);
    send(first, libc::SIGTERM);
    assert_eq!(unshare.code(), Some(0));
    let log = common::read_all(unshare.0.stderr.take().expect("it is piped"));
    assert!(log.contains("in_place=true"), "{log}");
}

#[test]
fn variables_with_the_pid_of_process_1_get_the_pid_of_the_command() {
    let directory = TempDir::new().expect("a directory can be made");
    list(directory.path(), "echo $LISTEN_PID $WATCHDOG_PID $PPID\n");
    let Some(mut command) = in_namespace(&["run", "-q", "list"], directory.path()) else {
        return;
    };
    command.env("LISTEN_PID", "1").env("WATCHDOG_PID", "1");
    let output = command.output().expect("it starts");
    let output = String::from_utf8(output.stdout).expect("it is text");
    let pids: Vec<_> = output.split_whitespace().collect();
    assert_eq!(pids.len(), 3, "{output}");
    assert!(
        pids[0] != "1" && pids.iter().all(|pid| *pid == pids[0]),
        "{output}"
    );
}

#[test]
fn doctor_reports_that_exitring_reaps() {
    let directory = TempDir::new().expect("a directory can be made");
    let Some(mut command) = in_namespace(&["doctor"], directory.path()) else {
        return;
    };
    let output = command.output().expect("it starts");
    let output = String::from_utf8(output.stdout).expect("it is text");
    assert!(
        output.contains("reaped by exitring, which is process 1 here"),
        "{output}"
    );
}

/// A field of `/proc/PID/status`; empty if the process has ended.
fn status(pid: u32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_default().trim().to_owned()
}

/// Whether a signal is pending for a process.
fn is_pending(pid: u32, signal: i32) -> bool {
    let mask = u64::from_str_radix(&status(pid, "ShdPnd:"), 16);
    // No signal is pending for a process that has ended.
    mask.is_ok_and(|mask| mask & (1 << (signal - 1)) != 0)
}

/// A Ctrl-C at a terminal reaches both the command and process 1, and must count as one request: a
/// second one would kill jobs at once.
#[test]
fn a_ctrl_c_at_a_terminal_counts_as_one_request() {
    let directory = TempDir::new().expect("a directory can be made");
    let job = "trap '' INT; \
        trap 'echo > asked; while [ ! -e go ]; do sleep 0.05; done; echo > trapped; exit 0' TERM; \
        echo $PPID > up; while :; do sleep 0.1; done\n";
    list(directory.path(), job);
    let Some(command) = in_namespace(&["run", "-q", "--grace", "1000s", "list"], directory.path())
    else {
        return;
    };
    // `script` makes a terminal. SIGINT is ignored where tests run in the background of a script.
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_str().expect("UTF-8"))
        .collect();
    let mut script = Command::new("script");
    script.args([
        "-qec",
        &format!("exec env --default-signal=INT {}", words.join(" ")),
        "/dev/null",
    ]);
    script
        .current_dir(directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    let mut child = script.spawn().expect("there is script");
    let stdin = child.stdin.take().expect("it is piped");
    let mut started = Started(child);
    let there = |name: &str| directory.path().join(name).exists();
    wait_until("the job runs", || there("up"));
    let unshare = children(started.0.id())[0];
    let first = children(unshare)[0];
    // Process 1 gets the signal later than the command, so that the two do not count as one request
    // because they come at the same time.
    send(first, libc::SIGSTOP);
    wait_until("process 1 is stopped", || {
        status(first, "State:").starts_with('T')
    });
    rustix::io::write(&stdin, b"\x03").expect("it reads");
    wait_until("the job is asked to end", || there("asked"));
    assert!(is_pending(first, libc::SIGINT));
    send(first, libc::SIGCONT);
    wait_until("process 1 has taken it", || {
        !is_pending(first, libc::SIGINT)
    });
    // A second one would kill the job now.
    std::thread::sleep(std::time::Duration::from_millis(300));
    fs::write(directory.path().join("go"), "").expect("it can be written");
    let code = started.code();
    assert!(there("trapped"), "{code:?}");
}

#[test]
fn jobs_of_process_1_are_contained() {
    let directory = TempDir::new().expect("a directory can be made");
    list(directory.path(), "setsid sleep 1000 & exit 0\n");
    let Some(mut command) = in_namespace(&["run", "--contain", "list"], directory.path()) else {
        return;
    };
    let output = command.output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stderr);
    if text.contains("jobs cannot be contained") && std::env::var_os("CI").is_none() {
        return eprintln!("not run: {text}");
    }
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("left a process behind"), "{text}");
}
