//! A process as the model knows it, and what the kernel reports about it.

use std::fs::File;
use std::io::Write;
use std::ops::Deref;
use std::os::fd::AsRawFd;

use exitring::{Child, Outcome, Pid, SignalError, Unknown, Watch};

use crate::common::{TEST_TIMEOUT, fork, pipe, signaled, wait_status};

pub enum Handle {
    Owned(Child),
    Watched(Watch),
}

impl Deref for Handle {
    type Target = Watch;

    fn deref(&self) -> &Watch {
        match self {
            Self::Owned(child) => child,
            Self::Watched(watch) => watch,
        }
    }
}

pub struct Process {
    pub pid: Pid,
    /// Whether the watcher owns it.
    pub owned: bool,
    /// How it ends, once it was made to end.
    pub fate: Option<Outcome>,
    /// Whether the test has reaped it.
    pub reaped: bool,
    pub handles: Vec<Handle>,
    writer: File,
}

impl Process {
    /// Forks a child that reads a byte and exits with it as its code.
    pub fn fork(owned: bool) -> Self {
        let (reader, writer) = pipe();
        // SAFETY: the child makes system calls only.
        let pid = unsafe {
            fork(|| {
                // Closes the ends of the pipes of other children, and the writing end of this one.
                libc::dup2(reader.as_raw_fd(), 0);
                libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0);
                let mut code = 0_u8;
                let read = libc::read(0, (&raw mut code).cast(), 1);
                if read == 1 { code.into() } else { 99 }
            })
        };
        Self {
            pid,
            owned,
            fate: None,
            reaped: false,
            handles: Vec::new(),
            writer,
        }
    }

    pub fn exit(&mut self, code: u8) {
        if self.fate.is_none() {
            self.writer.write_all(&[code]).unwrap();
            self.fate = Some(Outcome::Exited(code.into()));
        }
    }

    pub fn kill(&mut self) {
        if self.fate.is_some() {
            return;
        }
        match self.handles.first() {
            Some(Handle::Owned(child)) => child.kill().unwrap(),
            _ => assert_eq!(self.send_signal(libc::SIGKILL), 0),
        }
        self.fate = Some(signaled(libc::SIGKILL));
    }

    pub fn stop_and_continue(&self) {
        for signal in [libc::SIGSTOP, libc::SIGCONT] {
            match self.handles.first() {
                Some(Handle::Owned(child)) => match child.signal(signal) {
                    Ok(()) => {}
                    Err(SignalError::Exited) => assert!(self.fate.is_some()),
                    Err(error) => panic!("{error}"),
                },
                _ if !self.reaped => {
                    self.send_signal(signal);
                }
                _ => {}
            }
        }
    }

    /// Sends a signal to a process that is not reaped, so that the pid is its own.
    fn send_signal(&self, signal: i32) -> i32 {
        // SAFETY: no pointers.
        unsafe { libc::kill(self.pid.as_raw(), signal) }
    }

    pub fn reap(&mut self) {
        if let (false, false, Some(fate)) = (self.owned, self.reaped, self.fate) {
            assert_eq!(waitpid(self.pid), fate);
            self.reaped = true;
        }
    }

    /// Checks what a handle reports about this process, which has ended or is about to.
    pub fn check(&self, handle: &Watch) {
        let exit = handle.wait_timeout(TEST_TIMEOUT).unwrap();
        let exit = exit.expect("it ends in time");
        assert_eq!(exit.pid(), self.pid);
        let outcome = exit.outcome();
        let fate = self.fate.expect("it was made to end");
        // If the process was reaped before the watcher's query, the kernel reports the status from
        // Linux 6.15 on, and through an open pidfd.
        let unknown = Outcome::Unknown(Unknown::ReapedElsewhere);
        assert!(
            outcome == fate || (self.reaped && outcome == unknown),
            "{outcome:?}, not {fate:?}"
        );
    }

    /// Whether there is no such child any more: it is reaped.
    pub fn is_reaped(&self) -> bool {
        // SAFETY: a null pointer, and nothing is reaped.
        let waited = unsafe {
            libc::waitid(
                libc::P_PID,
                self.pid.as_raw() as libc::id_t,
                std::ptr::null_mut(),
                libc::WEXITED | libc::WNOHANG | libc::WNOWAIT,
            )
        };
        waited == -1
    }
}

/// What `waitpid` reports about a child, which it reaps.
pub fn waitpid(pid: Pid) -> Outcome {
    let status = wait_status(pid);
    match libc::WIFEXITED(status) {
        true => Outcome::Exited(libc::WEXITSTATUS(status)),
        false => Outcome::Signaled {
            signal: libc::WTERMSIG(status),
            core_dumped: libc::WCOREDUMP(status),
        },
    }
}
