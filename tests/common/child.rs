//! Children that end on command, and what the kernel reports about a process.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};

use exitring::{Outcome, Pid, Watcher};

use super::until;

/// A child that reads a line and exits with the code in it. Killed and reaped when dropped.
pub struct ControlledChild(Child);

impl ControlledChild {
    pub fn spawn() -> Self {
        let child = sh("read code; exit $code")
            .stdin(Stdio::piped())
            .spawn()
            .expect("sh starts");
        Self(child)
    }

    pub fn pid(&self) -> Pid {
        Pid::try_from(self.0.id()).expect("a child has a pid")
    }

    /// Makes the child exit with this code.
    pub fn exit(&mut self, code: i32) {
        let mut stdin = self.0.stdin.take().expect("it exits only once");
        writeln!(stdin, "{code}").expect("the child reads");
    }

    pub fn kill(&mut self) {
        self.0.kill().expect("it is our child");
    }

    /// Reaps the child; only this shows that nothing else did.
    pub fn reap(mut self) -> ExitStatus {
        drop(self.0.stdin.take());
        self.0.wait().expect("it was not reaped")
    }
}

impl Drop for ControlledChild {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A child that has exited with this code and is a zombie.
pub fn zombie(code: i32) -> ControlledChild {
    let mut child = ControlledChild::spawn();
    child.exit(code);
    until("the child is a zombie", || is_zombie(child.pid()));
    child
}

/// A shell that runs a script.
pub fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

/// A process that runs until it is killed.
pub fn sleep() -> Command {
    let mut command = Command::new("sleep");
    command.arg("1000");
    command
}

/// An owned child that exits at once with code 0.
pub fn spawn_true(watcher: &Watcher) -> exitring::Child {
    watcher
        .spawn(&mut Command::new("true"))
        .expect("true starts")
}

/// An owned child that runs until it is killed, at the latest when it is dropped.
pub fn spawn_sleep(watcher: &Watcher) -> exitring::Child {
    let mut child = watcher.spawn(&mut sleep()).expect("sleep starts");
    child.kill_on_drop(true);
    child
}

pub fn is_zombie(pid: Pid) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        stat.rsplit(')')
            .next()
            .is_some_and(|rest| rest.starts_with(" Z"))
    })
}

/// Whether a process with this pid exists, a zombie included.
pub fn exists(pid: Pid) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

#[track_caller]
pub fn until_reaped(pid: Pid) {
    until("the child is reaped", || !exists(pid));
}

/// The status of a process that exited with this code.
pub fn exited(code: i32) -> ExitStatus {
    ExitStatus::from_raw(code << 8)
}

/// The outcome of a process that a signal ended, without a core dump.
pub fn signaled(signal: i32) -> Outcome {
    Outcome::Signaled {
        signal,
        core_dumped: false,
    }
}

/// A pipe whose ends are closed on exec: the reading end, the writing end.
pub fn pipe() -> (File, File) {
    let mut ends = [-1; 2];
    // SAFETY: a pointer to a live array of two integers.
    let made = unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) };
    assert_eq!(made, 0, "a pipe can be had");
    // SAFETY: both were just opened, and nothing else owns them.
    ends.map(|end| unsafe { File::from_raw_fd(end) }).into()
}

/// Forks a child that runs a function and exits with the code that it returns.
///
/// # Safety
///
/// Other threads may hold locks at the fork: `child` makes system calls only, or calls that take no
/// such lock.
pub unsafe fn fork(child: impl FnOnce() -> i32) -> Pid {
    // SAFETY: the caller promises that the child is harmless.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        exit_now(child());
    }
    Pid::new(pid).expect("fork works")
}

/// Ends the process at once: no handler and no destructor runs.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: the call touches nothing of this process.
    unsafe { libc::_exit(code) }
}

/// Pauses until the process is killed.
pub fn pause() -> ! {
    loop {
        // SAFETY: no arguments.
        unsafe { libc::pause() };
    }
}

/// Waits for a child that is not reaped yet, and returns its raw status.
pub fn wait_status(pid: Pid) -> i32 {
    let mut status = 0;
    // SAFETY: a pointer to a live integer.
    let reaped = unsafe { libc::waitpid(pid.as_raw(), &raw mut status, 0) };
    assert_eq!(reaped, pid.as_raw(), "it was not reaped");
    status
}

/// Reaps a child that exits by itself, and returns its exit code.
pub fn reap(pid: Pid) -> i32 {
    let status = wait_status(pid);
    assert!(libc::WIFEXITED(status), "{status:x}");
    libc::WEXITSTATUS(status)
}

/// Children that all exit when the gate opens: forked, so that there can be thousands.
pub struct ExitGate {
    reader: File,
    writer: File,
}

impl ExitGate {
    pub fn new() -> Self {
        let (reader, writer) = pipe();
        Self { reader, writer }
    }

    /// Forks a child that exits with this code once the gate is open.
    pub fn fork(&self, code: i32) -> Pid {
        // SAFETY: the child makes system calls only, on descriptors that are open.
        unsafe {
            fork(|| {
                libc::close(self.writer.as_raw_fd());
                let mut byte = 0_u8;
                libc::read(self.reader.as_raw_fd(), (&raw mut byte).cast(), 1);
                code
            })
        }
    }

    pub fn open(self) {}
}
