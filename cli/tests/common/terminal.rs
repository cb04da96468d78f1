//! A terminal for tests, by tmux.

use std::path::Path;
use std::process::Command;

use super::wait_until;

/// Whether tmux is installed, which tests of terminals need. In CI it must be.
pub fn tmux_is_there() -> bool {
    let there = Command::new("tmux").arg("-V").output().is_ok();
    assert!(
        there || std::env::var_os("CI").is_none(),
        "CI needs tmux: apt-get install tmux"
    );
    if !there {
        eprintln!("not run: tmux is not installed (apt-get install tmux)");
    }
    there
}

/// A terminal that runs a command.
pub struct Terminal {
    socket: String,
}

impl Terminal {
    pub fn new(name: &str, dir: &Path, script: &str) -> Self {
        Self::with_size(name, dir, script, 120, 40)
    }

    pub fn with_size(name: &str, dir: &Path, script: &str, columns: u16, rows: u16) -> Self {
        let terminal = Self {
            socket: format!("exitring-{name}-{}", std::process::id()),
        };
        // The terminal stays until it is closed, also if Ctrl-C ends the script.
        let script = format!(
            "trap : INT; cd {}; {script}; echo code $?; exec sleep 1000",
            dir.display()
        );
        terminal.tmux(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            &columns.to_string(),
            "-y",
            &rows.to_string(),
            "bash",
            "-c",
            &script,
        ]);
        terminal
    }

    pub fn tmux(&self, arguments: &[&str]) -> String {
        let output = Command::new("tmux")
            .args(["-L", &self.socket])
            .args(arguments)
            .env("TERM", "xterm-256color")
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    pub fn wait_for(&self, words: &[&str]) -> String {
        let mut screen = String::new();
        wait_until(&format!("{words:?}"), || {
            screen = self.screen();
            words.iter().all(|words| screen.contains(words))
        });
        screen
    }

    /// A terminal that runs an interactive shell, with job control.
    pub fn with_shell(name: &str, dir: &Path) -> Self {
        let terminal = Self::new(name, dir, "PS1='ready> ' bash --norc -i");
        terminal.wait_for(&["ready>"]);
        terminal
    }

    pub fn enter(&self, line: &str) {
        self.tmux(&["send-keys", line, "Enter"]);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = Command::new("tmux")
            .args(["-L", &self.socket, "kill-server"])
            .output();
    }
}
