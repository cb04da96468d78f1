//! A command under construction, with the conditions that its child must find fulfilled.

use exitring::Command;

/// The exit code of a shell whose conditions are not fulfilled. No other child has it.
pub(super) const UNFULFILLED: i32 = 99;
/// The exit codes of children are below this.
pub(super) const CODES: i32 = 90;

pub(super) struct Draft {
    pub(super) command: Command,
    /// Conditions of the shell `test`.
    pub(super) tests: Vec<String>,
    /// Lines of `/proc/PID/status` (`proc_pid_status(5)`) by name, each once, and what `value` must
    /// be there, also as a condition of `test`.
    pub(super) status: Vec<(&'static str, String)>,
    /// Fields of `/proc/PID/stat` (`proc_pid_stat(5)`) by number.
    pub(super) stat: Vec<(u32, String)>,
    pub(super) has_cgroup: bool,
    /// Whether every user may execute the program.
    pub(super) may_change_user: bool,
}

impl Draft {
    pub(super) fn new(command: Command) -> Self {
        Self {
            command,
            tests: Vec::new(),
            status: Vec::new(),
            stat: Vec::new(),
            has_cgroup: false,
            may_change_user: false,
        }
    }

    /// Makes the child a shell that checks the conditions, and exits with the code if all are
    /// fulfilled. The command must be one of `sh -c`. Everything but `ulimit` is built into the
    /// shell, so no process is forked for it.
    pub(super) fn add_script(&mut self, code: i32) {
        let mut script = format!(
            "bad() {{ echo \"loadgen: soak: a child does not have its $1\" >&2; exit {UNFULFILLED}; }}\n"
        );
        if !self.status.is_empty() {
            script += "while read -r key value; do case $key in\n";
            for (key, condition) in &self.status {
                script += &format!("{key}:) [ {condition} ] || bad \"{key}: $value\" ;;\n");
            }
            script += "esac; done </proc/$$/status\n";
        }
        if !self.stat.is_empty() {
            // The name of the program is the second field. It has no blank here.
            script += "read -r stat </proc/$$/stat; set -f; set -- $stat; set +f\n";
            for (number, value) in &self.stat {
                script += &format!(
                    "[ \"${{{number}}}\" = {value} ] || bad \"field {number}: ${{{number}}}\"\n"
                );
            }
        }
        for (number, test) in self.tests.iter().enumerate() {
            script += &format!(
                "[ {test} ] || bad 'condition {number}: {}'\n",
                test.replace('\'', "")
            );
        }
        script += &format!("exit {code}\n");
        self.command.args(["-c", &script]);
    }
}

#[cfg(test)]
mod tests {
    use exitring::{Outcome, Watcher};

    use super::*;

    /// The exit of a shell with one more condition.
    fn outcome(add: impl FnOnce(&mut Draft)) -> Outcome {
        let mut draft = Draft::new(Command::new("/bin/sh"));
        draft.command.nice(7).umask(0o027).no_new_privs();
        draft.status.push(("NoNewPrivs", "\"$value\" = 1".into()));
        draft.stat.push((19, "7".into()));
        draft.tests.push("\"$(umask)\" = 0027".into());
        add(&mut draft);
        draft.add_script(5);
        let watcher = Watcher::new().expect("it is built");
        let child = watcher.spawn(&mut draft.command).expect("it starts");
        child.wait().expect("it ends").outcome()
    }

    #[test]
    fn a_shell_exits_with_the_code_only_if_all_conditions_are_fulfilled() {
        assert_eq!(outcome(|_| ()), Outcome::Exited(5));
        let unfulfilled: [fn(&mut Draft); 4] = [
            |draft| draft.status.push(("Threads", "\"$value\" = 2".into())),
            |draft| draft.stat.push((19, "8".into())),
            |draft| draft.tests.push("\"$(umask)\" = 0022".into()),
            |draft| _ = draft.command.umask(0o077),
        ];
        for add in unfulfilled {
            assert_eq!(outcome(add), Outcome::Exited(UNFULFILLED));
        }
    }
}
