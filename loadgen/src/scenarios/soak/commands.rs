//! The cases of a soak in which a command starts a program.

use std::time::Duration;

use anyhow::{Context, Result};
use exitring::{Child, Command, SpawnError, Stdio};
use futures_lite::future::{block_on, poll_once};

use super::attributes::{self, add_cgroup};
use super::case::{Case, Expected};
use super::draft::{CODES, Draft};
use super::driver::Driver;
use super::job::{After, Handle, Job, checked_callback};
use super::refused::Refused;

/// How much of the output of a child is kept.
const LIMITS: [usize; 4] = [0, 100, 4096, usize::MAX];
/// The time between the signals of a deadline.
const GRACE: Duration = Duration::from_millis(20);
/// A group with two processes, of which none or one ignores `SIGTERM`.
const GROUPS: [&str; 2] = [
    "sleep 1000 & exec sleep 1000",
    "(trap '' TERM; exec sleep 1000) & exec sleep 1000",
];

impl Driver {
    /// Starts a case with a command. Returns whether it has a child with an exit.
    pub(super) fn start_command(&mut self, case: Case, tag: u64) -> Result<bool> {
        match case {
            Case::Refused => self.start_refused()?,
            Case::DroppedFuture => self.drop_future(),
            Case::Output => self.start_output(tag)?,
            Case::Tree => self.start_tree(tag)?,
            Case::Leftover => self.start_leftover(tag)?,
            _ => self.start_with_attributes(case, tag)?,
        }
        Ok(!matches!(case, Case::Refused | Case::DroppedFuture))
    }

    fn start(&mut self, mut command: Command, by_future: bool) -> Result<Child, SpawnError> {
        match by_future {
            true => block_on(self.watcher.spawn_async(command)),
            false => self.watcher.spawn(&mut command),
        }
    }

    fn start_with_attributes(&mut self, case: Case, tag: u64) -> Result<()> {
        let mut code = self.random.i32(0..CODES);
        let is_checked = case == Case::Checked;
        // Only this user may execute the program that exits with a code.
        let for_all = is_checked || self.random.u8(0..4) == 0;
        let program = match for_all {
            true => &self.surroundings.succeeds,
            false => &self.surroundings.exits,
        };
        let mut draft = Draft::new(match is_checked {
            true => Command::new("/bin/sh"),
            false => Command::new(program.path()),
        });
        draft.may_change_user = for_all;
        let added = attributes::add_some(&mut draft, &mut self.random, &self.surroundings)?;
        for name in added {
            *self.attributes.entry(name).or_default() += 1;
        }
        if is_checked {
            draft.add_script(code);
        } else {
            let index = code as usize;
            code = program.code(index).into();
            draft.command.args(program.arguments(index));
        }
        let expected = Expected::Program {
            code,
            left: draft.has_cgroup.then_some(0),
        };
        let by_future = case == Case::CommandAsync || is_checked && self.random.bool();
        let child = self.start(draft.command, by_future)?;
        self.add_job(tag, child, expected, After::Nothing)
    }

    fn add_job(&mut self, tag: u64, child: Child, expected: Expected, after: After) -> Result<()> {
        let pid = child.pid();
        let mut job = Job::new(tag, Handle::Owned(child));
        job.after = after;
        if self.random.bool() {
            self.enqueue(&mut job, pid, expected)?;
        } else {
            let callback = checked_callback(&job.runs, &self.wrong, pid, expected);
            job.handle.child().on_exit(callback)?;
        }
        self.jobs.push_back(job);
        Ok(())
    }

    fn start_output(&mut self, tag: u64) -> Result<()> {
        let program = &self.surroundings.writes;
        let index = self.random.usize(..26);
        let (path, code) = (program.path(), program.code(index).into());
        let mut draft = Draft::new(Command::new(path));
        draft
            .command
            .args(program.arguments(index))
            .stdout(Stdio::piped())
            .stdin(Stdio::piped());
        if self.random.bool() {
            add_cgroup(&mut draft, &self.surroundings);
        }
        let left = draft.has_cgroup.then_some(0);
        let expected = Expected::Program { code, left };
        let child = self.watcher.spawn(&mut draft.command)?;
        let pid = child.pid();
        let job = Job::new(tag, Handle::Dropped);
        let callback = checked_callback(&job.runs, &self.wrong, pid, expected);
        child.on_exit(callback)?;
        let limit = LIMITS[self.random.usize(..LIMITS.len())];
        let output = child.output(limit)?;
        let whole = self.surroundings.writes.output();
        let kept = &whole[..limit.min(whole.len())];
        let discarded = (whole.len() - kept.len()) as u64;
        if output.stdout != kept || output.discarded != discarded {
            self.note_wrong("the output of a child is not what it wrote");
        }
        if output.exit.pid() != pid || !expected.fits(&output.exit) {
            self.note_wrong("the output of a child has the exit of another");
        }
        self.jobs.push_back(job);
        Ok(())
    }

    fn start_tree(&mut self, tag: u64) -> Result<()> {
        let script = GROUPS[self.random.usize(..GROUPS.len())];
        let mut draft = Draft::new(Command::new("/bin/sh"));
        draft
            .command
            .args(["-c", script])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        // This thread blocks all signals.
        draft.command.blocked_signals([]);
        match self.random.bool() {
            true => draft.command.process_group(0),
            false => draft.command.session(),
        };
        if self.random.bool() {
            add_cgroup(&mut draft, &self.surroundings);
        }
        let by_future = self.random.bool();
        let child = self.start(draft.command, by_future)?;
        let pipe = child.stdout.take().context("the output is piped")?;
        child.deadline(Duration::from_micros(self.random.u64(0..5000)), GRACE)?;
        self.add_job(tag, child, Expected::ByDeadline, After::Tree(pipe))
    }

    fn start_leftover(&mut self, tag: u64) -> Result<()> {
        let code = self.random.i32(0..CODES);
        let mut draft = Draft::new(Command::new("/bin/sh"));
        // The process leaves the session and the group, but not the cgroup.
        let script = format!("setsid sleep 1000 >/dev/null 2>&1 & exit {code}");
        draft.command.args(["-c", &script]).stdin(Stdio::null());
        add_cgroup(&mut draft, &self.surroundings);
        let by_future = self.random.bool();
        let child = self.start(draft.command, by_future)?;
        let expected = Expected::Program {
            code,
            left: Some(1),
        };
        self.add_job(tag, child, expected, After::Leftover)
    }

    /// Neither the child nor what it has started may live on.
    fn drop_future(&mut self) {
        let mut draft = Draft::new(Command::new("/bin/sh"));
        let script = GROUPS[self.random.usize(..GROUPS.len())];
        draft
            .command
            .args(["-c", script])
            .stdin(Stdio::null())
            .process_group(0);
        draft.command.stdout(Stdio::null());
        if self.random.bool() {
            add_cgroup(&mut draft, &self.surroundings);
        }
        let mut starting = self.watcher.spawn_async(draft.command);
        for _ in 0..self.random.u8(0..3) {
            match block_on(poll_once(&mut starting)) {
                None => std::thread::yield_now(),
                Some(Ok(mut child)) => {
                    // It is ready already. The drop of its handle kills it, and its group here.
                    let _ = child.signal_group(libc::SIGKILL);
                    child.kill_on_drop(true);
                    return;
                }
                Some(Err(error)) => return self.note_wrong(&format!("nothing started: {error}")),
            }
        }
    }

    fn start_refused(&mut self) -> Result<()> {
        let refused = Refused::one(&mut self.random, &self.surroundings)?;
        let by_future = self.random.bool();
        let error = match self.start(refused.command, by_future) {
            Ok(mut child) => {
                child.kill_on_drop(true);
                self.note_wrong("a command was started that cannot be");
                return Ok(());
            }
            Err(error) => error,
        };
        if !(refused.is_expected)(&error) {
            self.note_wrong(&format!(
                "a command was refused by another error: {error:?}"
            ));
        }
        Ok(())
    }
}
