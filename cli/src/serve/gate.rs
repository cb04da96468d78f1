//! What a process does that the service has forked, until it is the program.
//!
//! It is the service for a moment, with all of its descriptors, and is let go of by `std` as soon as it has closed them: that
//! is the first thing it does, before it becomes the user, who could stop it. What may take as long as the user likes, such as
//! to open a file, comes after that, and whoever waits for it outside waits for so long and no longer.

use std::ffi::CString;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::ptr;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Resource, Rlimit, chdir, getppid, setrlimit};
use rustix::thread::{Gid, Uid, set_thread_gid, set_thread_groups, set_thread_uid};

use super::service::Who;

/// What it is told at its gate: to become the program.
pub(super) const GO: u8 = 1;
/// Or to end.
pub(super) const STAY: u8 = 0;
/// What it says when it stands there. Otherwise: which of its files could not be opened, or [`PROGRAM`], and the error's number.
pub(super) const READY: u8 = 255;
/// It was not a file.
pub(super) const PROGRAM: u8 = 3;
/// The length of what it says.
pub(super) const WORD: usize = 5;

/// How a process ends that was not let through its gate.
const SHUT_OUT: i32 = 125;
/// The last of them: a set of them has so many bits.
const SIGNALS: i32 = 64;
/// How often what waits at its gate looks whether the service lives.
const LOOK_EVERY_NS: i64 = 50_000_000;

/// What is done between fork and exec. Every call of it is async-signal-safe, and nothing allocates.
pub(super) struct Gatekeeper {
    pub(super) gate: UnixStream,
    pub(super) service: Pid,
    /// Whom to become.
    pub(super) user: Option<Who>,
    pub(super) descriptors: Rlimit,
    pub(super) cwd: CString,
    pub(super) files: [Option<(CString, OFlags)>; 3],
    pub(super) program: Program,
}

/// What to execute.
pub(super) struct Program {
    /// Where it may be, in this order.
    pub(super) paths: Vec<CString>,
    /// With a place before the first for a shell, and one after the last for the end.
    arguments: Vec<*const libc::c_char>,
    environment: Vec<*const libc::c_char>,
    /// What the pointers point to.
    _texts: Vec<CString>,
}

// SAFETY: the pointers are to the texts that it owns, which never change.
unsafe impl Send for Program {}
// SAFETY: as above.
unsafe impl Sync for Program {}

impl Program {
    pub(super) fn new(
        paths: Vec<CString>,
        arguments: Vec<CString>,
        environment: Vec<CString>,
    ) -> Self {
        // A `CString`'s text stays where it is when the `CString` is moved.
        let pointers =
            |texts: &[CString]| texts.iter().map(|text| text.as_ptr()).collect::<Vec<_>>();
        let (its, mut around) = (pointers(&arguments), pointers(&environment));
        around.push(ptr::null());
        let texts = arguments.into_iter().chain(environment).collect();
        Self {
            paths,
            arguments: [vec![ptr::null()], its, vec![ptr::null()]].concat(),
            environment: around,
            _texts: texts,
        }
    }

    /// Comes back only if it cannot be. As `execvp` does, but with the `PATH` of the program.
    fn execute(&mut self) -> io::Error {
        let mut found = None;
        for path in &self.paths {
            // SAFETY: lists of pointers to texts that live, with a null at their ends.
            unsafe {
                libc::execve(
                    path.as_ptr(),
                    self.arguments.as_ptr().add(1),
                    self.environment.as_ptr(),
                )
            };
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::ENOENT | libc::ENOTDIR) => {}
                Some(libc::EACCES) => found = Some(error),
                Some(libc::ENOEXEC) => {
                    // A script without a first line that says so is the shell's.
                    self.arguments[0] = c"sh".as_ptr();
                    self.arguments[1] = path.as_ptr();
                    // SAFETY: as above.
                    unsafe {
                        libc::execve(
                            c"/bin/sh".as_ptr(),
                            self.arguments.as_ptr(),
                            self.environment.as_ptr(),
                        )
                    };
                    return error;
                }
                _ => return error,
            }
        }
        found.unwrap_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
    }
}

impl Gatekeeper {
    /// Becomes the program, or ends.
    pub(super) fn pass(&mut self) -> ! {
        self.close_the_service();
        if let Err((which, error)) = self.prepare() {
            self.give_up(which, &error);
        }
        self.say(READY, 0);
        self.wait();
        // The service has raised it for itself.
        if let Err(error) = setrlimit(Resource::Nofile, self.descriptors) {
            self.give_up(PROGRAM, &error.into());
        }
        let error = self.program.execute();
        self.give_up(PROGRAM, &error)
    }

    /// All but the gate, `std`'s pipe too, whose end tells it that all is well.
    fn close_the_service(&self) {
        let gate = self.gate.as_raw_fd() as libc::c_uint;
        // SAFETY: what they belong to is the service's, and never used in this process.
        unsafe {
            libc::close_range(3, gate - 1, 0);
            libc::close_range(gate + 1, libc::c_uint::MAX, 0);
        }
        for signal in 1..=SIGNALS {
            // Neither the service's handlers, nor what whoever started it ignored; of the kernel, as the C library denies the
            // signals of its own. Those that have only one disposition are refused.
            // SAFETY: zeroes are the default disposition, in more than the kernel reads; no handler is set.
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

    fn prepare(&self) -> Result<(), (u8, io::Error)> {
        let of_program = |error: rustix::io::Errno| (PROGRAM, io::Error::from(error));
        if let Some(who) = self.user {
            // The calls of the kernel itself, which change this thread; there is no other.
            set_thread_groups(&[])
                .and_then(|()| set_thread_gid(Gid::from_raw(who.gid)))
                .and_then(|()| set_thread_uid(Uid::from_raw(who.uid)))
                .map_err(of_program)?;
        }
        chdir(self.cwd.as_c_str()).map_err(of_program)?;
        for (number, file) in (0..).zip(&self.files) {
            if let Some((path, flags)) = file {
                open_as(path, *flags, number).map_err(|error| (number, error))?;
            }
        }
        Ok(())
    }

    /// Until it is told to go.
    fn wait(&mut self) {
        loop {
            let mut waits = [PollFd::new(&self.gate, PollFlags::IN)];
            let patience = Timespec {
                tv_sec: 0,
                tv_nsec: LOOK_EVERY_NS,
            };
            let ready = poll(&mut waits, Some(&patience)).unwrap_or(0);
            let mut word = [STAY];
            if ready > 0 {
                match self.gate.read(&mut word) {
                    Ok(1) if word == [GO] => return,
                    // Told to stay out.
                    Ok(_) => end(),
                    Err(_) => {}
                }
            }
            // The gate's end alone does not tell: what was forked meanwhile has a copy for a moment.
            if getppid() != Some(self.service) {
                end();
            }
        }
    }

    fn say(&mut self, word: u8, number: i32) {
        let mut said = [word; WORD];
        said[1..].copy_from_slice(&number.to_ne_bytes());
        // If nobody hears it, that is noticed at the gate.
        let _ = self.gate.write_all(&said);
    }

    fn give_up(&mut self, which: u8, error: &io::Error) -> ! {
        self.say(which, error.raw_os_error().unwrap_or(0));
        end()
    }
}

fn end() -> ! {
    // SAFETY: ends this forked child, which has nothing to clean up.
    unsafe { libc::_exit(SHUT_OUT) }
}

/// Opens a file as a standard stream. The user is the client's by now, so is what may be opened. A FIFO is not waited for.
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
