//! `--watch`, on the terminal of tmux.

mod common;

use std::fs;
use std::process::Command;

use common::terminal::{Terminal, tmux_is_there};
use common::{EXITRING, code, exitring, stderr, wait_until};

const WAIT: &str = "until [ -e go ]; do sleep 0.05; done";

#[test]
fn the_view_shows_running_and_failed_jobs_and_the_output_follows() {
    if !tmux_is_there() {
        return;
    }
    for columns in [40, 80, 200] {
        // With the quotes the command is not the same text as the output.
        let dir = tempfile::tempdir().unwrap();
        let list = format!("exit 3\necho hello; {WAIT}; echo b''ye\necho '\u{1f980}'; true\n");
        fs::write(dir.path().join("list"), list).unwrap();
        let script = format!("{EXITRING} run --watch -j 2 list");
        let name = format!("watch-{columns}");
        let terminal = Terminal::with_size(&name, dir.path(), &script, columns, 20);
        let screen = terminal.wait_for(&[
            "1 running, 2 done",
            "1 failed",
            "2/3",
            "exit code 3",
            "hello",
        ]);
        assert!(
            screen
                .lines()
                .all(|line| line.chars().count() <= usize::from(columns)),
            "{screen}"
        );
        assert!(
            screen.contains("running\n") && screen.contains("failed, the last 1 of 1"),
            "{screen}"
        );
        assert!(!screen.contains("bye"), "{screen}");
        // Keys are not echoed.
        terminal.tmux(&["send-keys", "xyzzy"]);
        fs::write(dir.path().join("go"), "").unwrap();
        let screen = terminal.wait_for(&["code 1", "bye", "2 succeeded"]);
        // The output of jobs is whole, in order, and the view is gone.
        let at = |text: &str| {
            screen
                .find(text)
                .unwrap_or_else(|| panic!("{text}: {screen}"))
        };
        assert!(at("hello") < at("bye") && at("bye") < at("2 succeeded"));
        assert!(
            !screen.contains("xyzzy") && !screen.contains("2/3"),
            "{screen}"
        );
        assert_eq!(
            screen.lines().filter(|&line| line == "hello").count(),
            1,
            "{screen}"
        );
    }
}

#[test]
fn the_terminal_is_returned_after_ctrl_c_and_sigterm() {
    if !tmux_is_there() {
        return;
    }
    for how in ["ctrl-c", "sigterm"] {
        let dir = tempfile::tempdir().unwrap();
        let terminal = Terminal::with_shell(&format!("watch-{how}"), dir.path());
        terminal.enter("stty -a > before");
        terminal.enter(&format!(
            "{EXITRING} run --watch -j 1 -- sh -c 'echo $$ > pid; sleep 1000' ::: 1"
        ));
        terminal.wait_for(&["1 running, 0 done"]);
        match how {
            "ctrl-c" => drop(terminal.tmux(&["send-keys", "C-c"])),
            _ => {
                let job = fs::read_to_string(dir.path().join("pid")).unwrap();
                let script = format!("kill -TERM $(ps -o ppid= -p {})", job.trim());
                assert!(
                    Command::new("sh")
                        .args(["-c", &script])
                        .status()
                        .unwrap()
                        .success()
                );
            }
        }
        // After a run that SIGINT ended, the shell drops the rest of a line.
        terminal.wait_for(&["1 interrupted"]);
        terminal.enter("stty -a > after; echo code $?");
        terminal.wait_for(&["code 0"]);
        let modes =
            ["before", "after"].map(|name| fs::read_to_string(dir.path().join(name)).unwrap());
        assert_eq!(modes[0], modes[1]);
        let flags = terminal.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]);
        assert_eq!(flags.trim(), "0 1");
    }
}

#[test]
fn ctrl_z_returns_the_terminal_and_fg_takes_it_again() {
    if !tmux_is_there() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let terminal = Terminal::with_shell("watch-z", dir.path());
    terminal.enter(&format!(
        "{EXITRING} run --watch -q -- sh -c '{WAIT}' ::: 1"
    ));
    terminal.wait_for(&["1 running, 0 done"]);
    terminal.tmux(&["send-keys", "C-z"]);
    let screen = terminal.wait_for(&["Stopped"]);
    assert!(!screen.contains("1 running"), "{screen}");
    terminal.enter("echo typed");
    terminal.wait_for(&["\ntyped"]);
    terminal.enter("fg");
    terminal.wait_for(&["1 running, 0 done"]);
    fs::write(dir.path().join("go"), "").unwrap();
    terminal.enter("");
    wait_until("the shell", || {
        let flags = terminal.tmux(&["display-message", "-p", "#{alternate_on}"]);
        flags.trim() == "0"
    });
}

#[test]
fn much_output_waits_and_is_complete() {
    if !tmux_is_there() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let script = format!("{EXITRING} run --watch -q -j 1 -- seq ::: 30000 30001 > out");
    let _file = Terminal::new("watch-file", dir.path(), &format!("{script}; touch done"));
    wait_until("the end", || dir.path().join("done").exists());
    let out = fs::read_to_string(dir.path().join("out")).unwrap();
    assert_eq!(out.lines().count(), 60_001);
    // With -k the second job waits for the first, and ends before it.
    let slow = "seq 30000; until [ -e second ]; do sleep 0.05; done; seq 30000 1 30002";
    fs::write(
        dir.path().join("list"),
        format!("{slow}\nseq 40000; touch second\n"),
    )
    .unwrap();
    for (name, arguments, last) in [
        ("much", "-j 1 -- seq ::: 30000 30001", 30_001),
        ("order", "-j 2 -k list", 40_000),
    ] {
        let script = format!("{EXITRING} run --watch -q {arguments}");
        let terminal = Terminal::new(&format!("watch-{name}"), dir.path(), &script);
        let screen = terminal.wait_for(&["code 0"]);
        let lines = screen.lines().filter_map(|line| line.parse::<u32>().ok());
        let lines: Vec<_> = lines.collect();
        assert_eq!(lines.last(), Some(&last), "{screen}");
        let in_order = lines.windows(2).all(|pair| pair[0] + 1 == pair[1]);
        assert!(in_order, "{screen}");
    }
}

#[test]
fn it_is_refused_without_a_terminal_and_where_jobs_have_it() {
    let text = stderr(&mut exitring(["run", "--watch", "--", "true", ":::", "1"]));
    assert!(text.contains("--watch needs a terminal"), "{text}");
    for option in [
        &["--inherit"][..],
        &["-j", "1", "--stopped", "foreground"],
        &["--bar"],
    ] {
        let mut run = exitring(["run", "--watch"]);
        assert_eq!(
            code(run.args(option).args(["--", "true", ":::", "1"])),
            Some(2),
            "{option:?}"
        );
    }
}

#[test]
fn the_view_follows_the_size_of_the_terminal() {
    if !tmux_is_there() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let script = format!("{EXITRING} run --watch -q -- sh -c 'echo line $0; {WAIT}' ::: 1");
    let terminal = Terminal::with_size("watch-size", dir.path(), &script, 100, 30);
    terminal.wait_for(&["1 running, 0 done", "line 1"]);
    for (columns, rows) in [("45", "8"), ("10", "2"), ("1", "1"), ("150", "40")] {
        terminal.tmux(&["resize-window", "-x", columns, "-y", rows]);
        let head = &"1 running, 0 done"[..columns.parse::<usize>().unwrap().min(17)];
        wait_until("the head of the view", || {
            terminal.screen().starts_with(head)
        });
    }
    terminal.wait_for(&["1 running, 0 done", "line 1"]);
    fs::write(dir.path().join("go"), "").unwrap();
    terminal.wait_for(&["code 0"]);
}

#[test]
fn a_file_that_cannot_be_created_ends_the_run_before_it_starts() {
    if !tmux_is_there() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let script = format!("TMPDIR=/absent {EXITRING} run --watch -- touch ran ::: 1");
    let terminal = Terminal::new("watch-tmp", dir.path(), &script);
    let screen = terminal.wait_for(&["code 3"]);
    assert!(
        screen.contains("cannot create a temporary file for --watch"),
        "{screen}"
    );
    assert!(!dir.path().join("ran").exists());
}
