//! The terminal for jobs that need it (`--stopped foreground`), on the terminal of tmux.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::terminal::{Terminal, tmux_is_there};
use common::{EXITRING, gone, jobs, mark, wait_until};

/// Turns echo off, prompts, reads, and does not turn echo on again.
const ASKS: &str = "stty -echo < /dev/tty; echo 'Sec''ret?' > /dev/tty; read secret < /dev/tty; echo $secret > got";

impl Terminal {
    /// Runs the list with `--stopped foreground`. Then the shell prints the exit code and the modes
    /// of the terminal.
    fn run_in_foreground(&self, then: &str) {
        let run = format!("{EXITRING} run -j 1 --stopped foreground --grace 1h --joblog log list");
        self.enter(&format!("{run} {then}; echo code $?; stty -a > modes"));
    }

    fn is_without_echo(&self) -> bool {
        let tty = self.tmux(&["display-message", "-p", "#{pane_tty}"]);
        let stty = Command::new("stty").args(["-a", "-F", tty.trim()]).output();
        String::from_utf8_lossy(&stty.unwrap().stdout).contains(" -echo ")
    }

    /// Waits until the shell reads commands again and the terminal echoes.
    fn echoes(&self, dir: &Path) {
        self.enter("touch typed");
        wait_until("the shell", || dir.join("typed").exists());
        let modes = fs::read_to_string(dir.join("modes")).unwrap();
        assert!(modes.contains(" echo "), "{modes}");
        self.wait_for(&["touch typed"]);
    }
}

#[test]
fn a_password_prompt_gets_the_terminal_and_echo_is_on_afterwards() {
    if !tmux_is_there() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let wait = "kill -USR1 $PPID; until [ -e go ]; do sleep 0.05; done";
    let asks = format!("stty -echo < /dev/tty; echo 'writ''ten'; {ASKS}");
    fs::write(dir.path().join("list"), format!("{asks}\n{wait}\n")).unwrap();
    let terminal = Terminal::with_shell("password", dir.path());
    // exitring forwards the job's output to the terminal while the job has it.
    terminal.enter("stty tostop");
    terminal.run_in_foreground("");
    let screen = terminal.wait_for(&["job 1 gets the terminal", "written", "Secret?"]);
    assert!(!screen.contains("is stopped"), "{screen}");
    // Several times the interval between two drawings.
    std::thread::sleep(std::time::Duration::from_millis(500));
    let screen = terminal.screen();
    assert!(!screen.contains("1 running"), "{screen}");
    terminal.enter("hunter2");
    let screen = terminal.wait_for(&["SIGUSR1 refused", "1 running, 1 done"]);
    assert!(!screen.contains("hunter2"), "{screen}");
    assert_eq!(
        fs::read_to_string(dir.path().join("got")).unwrap(),
        "hunter2\n"
    );
    fs::write(dir.path().join("go"), "").unwrap();
    terminal.wait_for(&["2 succeeded", "code 0"]);
    terminal.echoes(dir.path());
}

#[test]
fn a_request_to_end_while_a_job_has_the_terminal_interrupts_the_run() {
    if !tmux_is_there() {
        return;
    }
    for (name, key, says) in [
        (
            "key",
            "C-c",
            "interrupted: job 1, which had the terminal, was ended by SIGINT",
        ),
        (
            "quit",
            "C-\\",
            "interrupted: job 1, which had the terminal, was ended by SIGQUIT",
        ),
        ("signal", "k", "interrupted: 1 running job gets SIGTERM"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        // At a typed k the job signals exitring, as another process might.
        let reads = "stty -icanon -echo < /dev/tty; echo 'Sec''ret?' > /dev/tty; head -c 1 < /dev/tty > got; kill $PPID; sleep 1000";
        fs::write(dir.path().join("list"), format!("{reads}\ntouch second\n")).unwrap();
        let terminal = Terminal::with_shell(name, dir.path());
        // After a run that SIGINT ended, the shell drops the rest of the line, and shows its prompt.
        terminal.enter("PROMPT_COMMAND='[ ! -e log ] || [ -e modes ] || stty -a > modes'");
        terminal.run_in_foreground("");
        terminal.wait_for(&["Secret?"]);
        terminal.tmux(&["send-keys", key]);
        terminal.wait_for(&[says, "1 interrupted"]);
        terminal.enter("echo code $?");
        terminal.wait_for(&["code 130"]);
        terminal.echoes(dir.path());
        assert!(!dir.path().join("second").exists());
        let log = fs::read_to_string(dir.path().join("log")).unwrap();
        assert_eq!(jobs(&log).len(), 1, "{log}");
        assert_eq!(jobs(&log)[0]["interrupted"], true, "{log}");
    }
}

#[test]
fn ctrl_z_stops_the_foreground_job_and_the_run_and_fg_continues_both() {
    if !tmux_is_there() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("list"), format!("{ASKS}\n")).unwrap();
    let terminal = Terminal::with_shell("suspend", dir.path());
    // The shell shows its prompt only once cat is stopped too.
    terminal.run_in_foreground("| cat");
    terminal.wait_for(&["job 1 gets the terminal", "Secret?"]);
    terminal.tmux(&["send-keys", "C-z"]);
    terminal.wait_for(&["Stopped"]);
    // In the background the job stays stopped, and is reported.
    terminal.enter("bg");
    terminal.wait_for(&[
        "job 1 is stopped (SIGTSTP): it gets the terminal once exitring is in the foreground",
    ]);
    terminal.enter("fg; echo code $?; stty -a > modes");
    wait_until("the second grant of the terminal", || {
        terminal.screen().matches("job 1 gets the terminal").count() == 2
    });
    wait_until("the modes of the job", || terminal.is_without_echo());
    terminal.enter("hunter2");
    let screen = terminal.wait_for(&["1 succeeded", "code 0"]);
    assert!(!screen.contains("hunter2"), "the job's modes: {screen}");
    terminal.echoes(dir.path());
    assert_eq!(
        fs::read_to_string(dir.path().join("got")).unwrap(),
        "hunter2\n"
    );
}

#[test]
fn a_job_gets_the_terminal_only_while_the_run_is_in_the_foreground() {
    if !tmux_is_there() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("list"),
        "read line < /dev/tty; echo $line > got\n",
    )
    .unwrap();
    let terminal = Terminal::with_shell("waits", dir.path());
    terminal.enter(&format!("{EXITRING} run -j 1 --stopped foreground list &"));
    terminal.wait_for(&["job 1 is stopped (SIGTTIN): it gets the terminal once"]);
    terminal.enter("touch typed");
    wait_until("the shell", || dir.path().join("typed").exists());
    terminal.enter("fg");
    terminal.wait_for(&["job 1 gets the terminal"]);
    terminal.enter("a line");
    terminal.wait_for(&["1 succeeded"]);
    let got = fs::read_to_string(dir.path().join("got")).unwrap();
    assert_eq!(got, "a line\n");
}

#[test]
fn a_hangup_while_a_job_has_the_terminal_interrupts_the_run() {
    if !tmux_is_there() {
        return;
    }
    for (name, then) in [("ends", "true"), ("stays", "sleep 1000")] {
        let dir = tempfile::tempdir().unwrap();
        let mark = mark(&format!("closed-{name}"));
        // The kernel signals the shell that runs exitring, and the job, which ignores the signal.
        let list = format!("trap '' HUP; {ASKS}; {then}\ntouch second; sleep 1000\n");
        fs::write(dir.path().join("list"), list).unwrap();
        let run = format!("{EXITRING} run -j 1 --stopped foreground --joblog log list");
        let terminal = Terminal::new(name, dir.path(), &format!("{mark} {run}"));
        terminal.wait_for(&["Secret?"]);
        drop(terminal);
        gone(&mark);
        let log = fs::read_to_string(dir.path().join("log")).unwrap();
        assert_eq!(jobs(&log).len(), 1, "{log}");
        if name == "stays" {
            assert_eq!(jobs(&log)[0]["interrupted"], true, "{log}");
        }
        assert!(!dir.path().join("second").exists());
    }
}

#[test]
fn a_job_that_handles_ctrl_c_and_exits_does_not_interrupt_the_run() {
    if !tmux_is_there() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let handles = "trap 'exit 130' INT; echo 'Sec''ret?' > /dev/tty; read line < /dev/tty";
    let list = format!("stty -echo < /dev/tty; {handles}\necho 'sec''ond'\n");
    fs::write(dir.path().join("list"), list).unwrap();
    let terminal = Terminal::with_shell("handles", dir.path());
    terminal.run_in_foreground("");
    terminal.wait_for(&["Secret?"]);
    terminal.tmux(&["send-keys", "C-c"]);
    terminal.wait_for(&["second", "1 succeeded, 1 failed", "code 1"]);
    terminal.echoes(dir.path());
}
