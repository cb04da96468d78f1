//! Both ways to start a process that waits at a start gate.

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use exitring::Watcher;

/// The argument that makes this program the stage.
pub(crate) const STAGE: &str = "--stage";

/// The descriptor of the start gate in the stage.
const GATE: i32 = 3;
/// As long as the setup of a usual request.
const SETUP: [u8; 512] = [7; 512];

/// What one start took, in microseconds.
pub(crate) struct Started {
    /// How long the thread was blocked that started the process.
    pub(crate) blocked: f64,
    /// The time until the program was executed.
    pub(crate) executed: f64,
}

pub(crate) struct Ways {
    watcher: Watcher,
    own: PathBuf,
}

impl Ways {
    pub(crate) fn new() -> Self {
        Self {
            watcher: Watcher::new().expect("the watcher is built"),
            own: std::env::current_exe().expect("this program has a path"),
        }
    }

    /// As the service does it: the child is a copy of this process.
    pub(crate) fn fork(&self) -> Started {
        let start = Instant::now();
        let (mut gate, child_end) = UnixStream::pair().expect("descriptors are free");
        let mut command = Command::new("/");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        let mut child_end = child_end;
        let run = move || {
            let fd = child_end.as_raw_fd() as libc::c_uint;
            // SAFETY: this process uses no other descriptor.
            unsafe {
                libc::syscall(libc::SYS_close_range, 3, fd - 1, 0);
                libc::syscall(libc::SYS_close_range, fd + 1, libc::c_uint::MAX, 0);
            }
            execute_at_release(&mut child_end);
        };
        // SAFETY: `run` makes system calls only.
        unsafe { command.pre_exec(run) };
        let mut child = command.spawn().expect("it starts");
        let blocked = start.elapsed();
        drop(command);
        let executed = release(&mut gate, start);
        assert!(child.wait().expect("it is a child").success());
        Started {
            blocked: blocked.as_secs_f64() * 1e6,
            executed,
        }
    }

    /// As the service could do it: the child executes this program, which then executes the other.
    pub(crate) fn stage(&self) -> Started {
        let start = Instant::now();
        let (mut gate, child_end) = UnixStream::pair().expect("descriptors are free");
        let mut command = exitring::Command::new(&self.own);
        command
            .arg(STAGE)
            .stdin(exitring::Stdio::null())
            .stdout(exitring::Stdio::null())
            .stderr(exitring::Stdio::null())
            .process_group(0)
            .descriptor(GATE, child_end);
        let child = self.watcher.spawn(&mut command).expect("it starts");
        let blocked = start.elapsed();
        drop(command);
        gate.write_all(&SETUP).expect("the stage reads it");
        let executed = release(&mut gate, start);
        assert!(child.wait().expect("the watcher runs").success());
        Started {
            blocked: blocked.as_secs_f64() * 1e6,
            executed,
        }
    }
}

/// Waits until the child is at its start gate, opens it, and waits until the program is executed.
fn release(gate: &mut UnixStream, start: Instant) -> f64 {
    let mut message = [0];
    gate.read_exact(&mut message).expect("it is at its gate");
    gate.write_all(&[1]).expect("it reads");
    // The exec closes the child's end.
    assert_eq!(gate.read(&mut message).expect("it executes"), 0);
    start.elapsed().as_secs_f64() * 1e6
}

/// The child, at its start gate.
fn execute_at_release(gate: &mut UnixStream) -> ! {
    let _ = gate.write_all(&[1]);
    let mut message = [0];
    let _ = gate.read_exact(&mut message);
    let program = c"/bin/true".as_ptr();
    // SAFETY: the strings and lists are valid and end as C requires; the last call does not return.
    unsafe {
        libc::execve(
            program,
            [program, std::ptr::null()].as_ptr(),
            [std::ptr::null()].as_ptr(),
        );
        libc::_exit(125)
    }
}

/// The main function of the stage.
pub(crate) fn stage() -> ! {
    use std::os::fd::{FromRawFd, OwnedFd};
    // SAFETY: the descriptor was mapped for the stage, and nothing else owns it.
    let gate = unsafe { OwnedFd::from_raw_fd(GATE) };
    rustix::io::fcntl_setfd(&gate, rustix::io::FdFlags::CLOEXEC).expect("it is open");
    let mut gate = UnixStream::from(gate);
    let mut setup = SETUP;
    gate.read_exact(&mut setup).expect("the service sends it");
    execute_at_release(&mut gate)
}

/// The processor time of this process and of the children that it has waited for, in microseconds.
pub(crate) fn cpu_time() -> f64 {
    let of = |who| {
        let mut usage = std::mem::MaybeUninit::uninit();
        // SAFETY: the call writes the structure.
        let usage: libc::rusage = unsafe {
            assert_eq!(libc::getrusage(who, usage.as_mut_ptr()), 0);
            usage.assume_init()
        };
        let us = |time: libc::timeval| time.tv_sec as f64 * 1e6 + time.tv_usec as f64;
        us(usage.ru_utime) + us(usage.ru_stime)
    };
    of(libc::RUSAGE_SELF) + of(libc::RUSAGE_CHILDREN)
}
