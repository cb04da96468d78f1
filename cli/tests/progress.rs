//! The progress bar and Ctrl-C, on the terminal of tmux.

mod common;

use std::fs;

use common::terminal::{Terminal, tmux_is_there};
use common::{EXITRING, gone, jobs, mark, wait_until};

#[test]
fn a_bar_shows_the_progress_at_a_terminal() {
    if !tmux_is_there() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let wait = "until [ -e go ]; do sleep 0.05; done";
    fs::write(
        dir.path().join("list"),
        format!("true\nfalse\necho from a job\n{wait}\n{wait}\n"),
    )
    .unwrap();
    let terminal = Terminal::new("bar", dir.path(), &format!("{EXITRING} run -j 2 list"));
    let screen = terminal.wait_for(&[
        "2 running, 3 done, 1 failed",
        "3/5",
        "ETA",
        "/s",
        "from a job",
    ]);
    assert!(!screen.contains("succeeded"), "{screen}");
    fs::write(dir.path().join("go"), "").unwrap();
    let screen = terminal.wait_for(&["4 succeeded, 1 failed", "code 1", "from a job"]);
    assert!(!screen.contains("ETA"), "the bar is taken away: {screen}");
}

#[test]
fn bar_and_no_bar_decide_about_the_bar() {
    if !tmux_is_there() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("list"),
        "echo from a job\nuntil [ -e go ]; do sleep 0.05; done\n",
    )
    .unwrap();
    let script = format!("{EXITRING} run -q --bar list; {EXITRING} run --no-bar list");
    let terminal = Terminal::new("nobar", dir.path(), &script);
    let screen = terminal.wait_for(&["1 running, 1 done, 0 failed", "from a job"]);
    assert!(!screen.contains("succeeded"), "{screen}");
    fs::write(dir.path().join("go"), "").unwrap();
    let screen = terminal.wait_for(&["2 succeeded", "code 0"]);
    // The summary of the second run only.
    assert_eq!(screen.matches("succeeded").count(), 1, "{screen}");
    fs::remove_file(dir.path().join("go")).unwrap();
    let script = format!("{EXITRING} run --no-bar list");
    let terminal = Terminal::new("nobar2", dir.path(), &script);
    terminal.wait_for(&["from a job"]);
    // Several times the interval between two drawings.
    std::thread::sleep(std::time::Duration::from_millis(500));
    let screen = terminal.screen();
    assert!(!screen.contains("running"), "{screen}");
    fs::write(dir.path().join("go"), "").unwrap();
    terminal.wait_for(&["2 succeeded", "code 0"]);
}

#[test]
fn no_bar_overwrites_a_list_that_is_typed() {
    if !tmux_is_there() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let script = format!("{EXITRING} run -j 1; {EXITRING} run --bar -- echo");
    let terminal = Terminal::new("typed", dir.path(), &script);
    terminal.wait_for(&["reading commands from the terminal"]);
    terminal.enter("echo from a job; until [ -e go ]; do sleep 0.05; done");
    terminal.wait_for(&["\nfrom a job"]);
    // Several times the interval between two drawings.
    std::thread::sleep(std::time::Duration::from_millis(500));
    let screen = terminal.screen();
    assert!(!screen.contains("running"), "{screen}");
    fs::write(dir.path().join("go"), "").unwrap();
    terminal.tmux(&["send-keys", "C-d"]);
    terminal.wait_for(&["1 succeeded", "reading arguments", "0 running"]);
}

#[test]
fn the_bar_is_ascii_in_an_ascii_locale() {
    if !tmux_is_there() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let list = "true\ntrue\nuntil [ -e go ] || ! [ -e list ]; do sleep 0.05; done\n";
    fs::write(dir.path().join("list"), list).unwrap();
    let script = format!("LC_ALL=C {EXITRING} run -j 1 list");
    let terminal = Terminal::new("ascii", dir.path(), &script);
    let screen = terminal.wait_for(&["2 done, 0 failed", "2/3", "ETA"]);
    assert!(screen.is_ascii(), "{screen}");
    assert!(screen.contains("===="), "{screen}");
    fs::write(dir.path().join("go"), "").unwrap();
    terminal.wait_for(&["3 succeeded", "code 0"]);
}

#[test]
fn ctrl_c_at_the_terminal_ends_jobs_with_sigterm() {
    if !tmux_is_there() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let job = "trap 'echo got SIGTERM; exit 0' TERM; touch runs; while :; do sleep 0.02; done\n";
    fs::write(dir.path().join("list"), job).unwrap();
    let terminal = Terminal::new("interrupt", dir.path(), &format!("{EXITRING} run list"));
    wait_until("the job", || dir.path().join("runs").exists());
    terminal.tmux(&["send-keys", "C-c"]);
    terminal.wait_for(&[
        "interrupted: 1 running",
        "got SIGTERM",
        "1 interrupted",
        "code 130",
    ]);
}

#[test]
fn a_hangup_of_the_terminal_ends_the_jobs() {
    if !tmux_is_there() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mark = mark("hangup");
    fs::write(dir.path().join("list"), "touch runs; sleep 1000 & wait\n").unwrap();
    let script = format!("{mark} {EXITRING} run --joblog log list");
    let terminal = Terminal::new("hangup", dir.path(), &script);
    wait_until("the job", || dir.path().join("runs").exists());
    // SIGHUP arrives, and writes to the terminal fail.
    drop(terminal);
    gone(&mark);
    let log = fs::read_to_string(dir.path().join("log")).unwrap();
    assert_eq!(jobs(&log)[0]["interrupted"], true, "{log}");
}

#[test]
fn the_bar_is_drawn_only_in_the_foreground() {
    if !tmux_is_there() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let list = "touch runs; until [ -e go ]; do sleep 0.05; done\n";
    fs::write(dir.path().join("list"), list).unwrap();
    let terminal = Terminal::with_shell("background", dir.path());
    // With `tostop`, a write from the background stops the writer.
    terminal.enter("stty tostop");
    terminal.enter(&format!("{EXITRING} run -j 2 --joblog log list &"));
    wait_until("the job", || dir.path().join("runs").exists());
    // Several times the interval between two drawings.
    std::thread::sleep(std::time::Duration::from_millis(500));
    let screen = terminal.screen();
    assert!(!screen.contains("1 running"), "{screen}");
    terminal.enter("fg");
    terminal.wait_for(&["1 running, 0 done"]);
    // While it is stopped, the line belongs to the shell.
    terminal.tmux(&["send-keys", "C-z"]);
    let screen = terminal.wait_for(&["Stopped"]);
    assert!(!screen.contains("1 running"), "{screen}");
    terminal.enter("fg");
    terminal.wait_for(&["1 running, 0 done"]);
    // In the background the run continues.
    terminal.tmux(&["send-keys", "C-z"]);
    terminal.enter("bg");
    fs::write(dir.path().join("go"), "").unwrap();
    wait_until("the record", || {
        fs::read_to_string(dir.path().join("log")).is_ok_and(|log| jobs(&log).len() == 1)
    });
}

#[test]
fn a_job_that_needs_the_terminal_is_reported_and_ended_by_ctrl_c() {
    if !tmux_is_there() {
        return;
    }
    for (name, line, signal) in [
        ("reads", "read line < /dev/tty", "SIGTTIN"),
        ("sets", "stty -echo < /dev/tty", "SIGTTOU"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("list"), format!("{line}\n")).unwrap();
        let terminal = Terminal::with_shell(name, dir.path());
        terminal.enter(&format!("{EXITRING} run --grace 1h list"));
        terminal.wait_for(&[&format!(
            "job 1 is stopped ({signal}): it needs the terminal"
        )]);
        terminal.tmux(&["send-keys", "C-c"]);
        terminal.wait_for(&["1 interrupted"]);
        terminal.enter("echo code $?");
        terminal.wait_for(&["code 130"]);
    }
}

#[test]
fn a_request_ends_a_background_run_on_a_terminal_with_tostop() {
    if !tmux_is_there() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("list"), "touch runs; sleep 1000\n").unwrap();
    let terminal = Terminal::with_shell("tostop", dir.path());
    terminal.enter("stty tostop");
    terminal.enter(&format!("{EXITRING} run --joblog log list &"));
    wait_until("the job", || dir.path().join("runs").exists());
    terminal.enter("kill %1; wait %1; echo code $?");
    // Its messages no longer stop it.
    terminal.wait_for(&["1 interrupted", "code 130"]);
    let log = fs::read_to_string(dir.path().join("log")).unwrap();
    assert_eq!(jobs(&log)[0]["interrupted"], true, "{log}");
}
