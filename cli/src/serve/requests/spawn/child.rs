//! The child of the service, between fork and exec.
//!
//! At first the child is a copy of the service, with all of its descriptors. It closes them before
//! it changes its user: as that user it could be stopped, and would keep them open.
//! `Command::spawn` in the service returns once they are closed. Whatever may take as long as the
//! user likes, such as opening a file, comes later, and the service waits for it only with a
//! timeout.

use std::ffi::CString;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::ptr;

use libc::c_uint;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, chdir, getppid, setpriority_process, setrlimit, umask};
use rustix::thread::{Gid, Uid, set_thread_gid, set_thread_groups, set_thread_uid};

use super::attributes::{Attributes, kernel_resource};
use super::messages::{ABORT, READY, RELEASE, REPORT_BYTES, Step};
use super::program::Program;
use crate::serve::service::Peer;
use crate::serve::sys::process::START_GATE_NAME;

/// The exit code of a child that did not execute its program.
pub(crate) const EXIT_NOT_STARTED: i32 = 125;
/// The highest signal number. A signal set has this many bits.
const SIGNALS: i32 = 64;
/// How often a child at its start gate checks that the service lives.
const CHECK_INTERVAL_NS: i64 = 50_000_000;

/// The steps between fork and exec. Every call is async-signal-safe, and none allocates.
pub(super) struct ChildSetup {
    /// The child's end of the start gate.
    pub(super) gate: UnixStream,
    pub(super) service: Pid,
    /// The user to change to, if it is not the service's.
    pub(super) user: Option<Peer>,
    pub(super) attributes: Attributes,
    pub(super) cwd: CString,
    pub(super) files: [Option<(CString, OFlags)>; 3],
    pub(super) program: Program,
}

impl ChildSetup {
    /// Executes the program, or exits.
    pub(super) fn run(&mut self) -> ! {
        self.close_descriptors();
        // Fails only for an invalid pointer. `restore` recognises a child by it that has ended here.
        let _ = rustix::thread::set_name(START_GATE_NAME);
        reset_signals();
        if let Err((step, error)) = self.prepare() {
            self.fail(step, &error);
        }
        self.report(READY, 0);
        self.wait_for_release();
        // After everything that needs memory or descriptors.
        for index in 0..self.attributes.limits.len() {
            let (resource, limit) = self.attributes.limits[index];
            if let Err(error) = setrlimit(kernel_resource(resource), limit) {
                self.fail(Step::Limit(resource), &error.into());
            }
        }
        let error = self.program.execute();
        self.fail(Step::Program, &error)
    }

    /// Closes all descriptors but the start gate. That includes the pipe of `std`, whose end tells
    /// `Command::spawn` that the child has started.
    fn close_descriptors(&self) {
        let gate = self.gate.as_raw_fd() as c_uint;
        // SAFETY: the owners of the descriptors are the service's, and not used in this process.
        unsafe {
            libc::syscall(libc::SYS_close_range, 3, gate - 1, 0);
            libc::syscall(libc::SYS_close_range, gate + 1, c_uint::MAX, 0);
        }
    }

    fn prepare(&self) -> Result<(), (Step, io::Error)> {
        let of = |step: Step| move |error: rustix::io::Errno| (step, io::Error::from(error));
        let of_program = of(Step::Program);
        if let Some(user) = self.user {
            // These system calls change only the calling thread, and there is no other.
            set_thread_groups(&[])
                .and_then(|()| set_thread_gid(Gid::from_raw(user.gid)))
                .and_then(|()| set_thread_uid(Uid::from_raw(user.uid)))
                .map_err(of_program)?;
        }
        if let Some(nice) = self.attributes.nice {
            setpriority_process(None, nice).map_err(of(Step::Nice))?;
        }
        chdir(self.cwd.as_c_str()).map_err(of_program)?;
        // Before files are created.
        if let Some(mask) = self.attributes.umask {
            umask(mask);
        }
        for (number, file) in (0..).zip(&self.files) {
            if let Some((path, flags)) = file {
                open_as(path, *flags, number).map_err(|error| (Step::File(number), error))?;
            }
        }
        Ok(())
    }

    /// Waits at the start gate. Exits unless the service releases the child.
    fn wait_for_release(&mut self) {
        loop {
            let mut fds = [PollFd::new(&self.gate, PollFlags::IN)];
            let timeout = Timespec {
                tv_sec: 0,
                tv_nsec: CHECK_INTERVAL_NS,
            };
            let ready = poll(&mut fds, Some(&timeout)).unwrap_or(0);
            let mut message = [ABORT];
            if ready > 0 {
                match self.gate.read(&mut message) {
                    Ok(1) if message == [RELEASE] => return,
                    // Aborted, or the service has closed its end.
                    Ok(_) => exit(),
                    Err(_) => {}
                }
            }
            // The end of the stream is not enough: a child that was forked meanwhile has a copy of
            // the service's end for a moment.
            if getppid() != Some(self.service) {
                exit();
            }
        }
    }

    fn report(&mut self, first: u8, number: i32) {
        let mut message = [first; REPORT_BYTES];
        message[1..].copy_from_slice(&number.to_ne_bytes());
        // If the service is gone, `wait_for_release` notices that.
        let _ = self.gate.write_all(&message);
    }

    fn fail(&mut self, step: Step, error: &io::Error) -> ! {
        self.report(step.byte(), error.raw_os_error().unwrap_or(0));
        exit()
    }
}

/// Sets all signals to their default dispositions, instead of the service's handlers and what its
/// parent ignored. This uses the system call, as the C library refuses the signals that it uses
/// itself. The kernel refuses SIGKILL and SIGSTOP.
fn reset_signals() {
    for signal in 1..=SIGNALS {
        // SAFETY: zeroes are the default disposition, in more bytes than the kernel reads; no
        // handler is set.
        unsafe {
            let default = [0_u64; 8];
            libc::syscall(
                libc::SYS_rt_sigaction,
                libc::c_long::from(signal),
                default.as_ptr(),
                ptr::null_mut::<u64>(),
                libc::c_long::from(SIGNALS / 8),
            )
        };
    }
}

fn exit() -> ! {
    // SAFETY: ends this forked child, which has nothing to clean up.
    unsafe { libc::_exit(EXIT_NOT_STARTED) }
}

/// Opens a file as a standard stream, with the permissions of the client's user. Does not wait for
/// the other end of a FIFO.
fn open_as(path: &CString, flags: OFlags, number: u8) -> io::Result<()> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let file = rustix::fs::open(path.as_c_str(), flags, Mode::from_raw_mode(0o666))?;
    fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    match number {
        0 => rustix::stdio::dup2_stdin(&file)?,
        1 => rustix::stdio::dup2_stdout(&file)?,
        _ => rustix::stdio::dup2_stderr(&file)?,
    }
    Ok(())
}
