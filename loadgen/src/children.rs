//! Children that stand by at a gate, wait for their moment, write down when it was, and exit.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, ensure};
use exitring::Pid;

use crate::board::{Board, Gate};
use crate::{bare, inheritance};

/// The code that a child exits with.
pub(crate) fn code(index: usize) -> i32 {
    (index % 256) as i32
}

/// Forks a child that will live as its slot says.
pub(crate) fn fork(board: &Board, index: usize, gate: Gate) -> Result<Pid> {
    let parent = std::process::id();
    // SAFETY: the child makes system calls only.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        die_with(parent);
        live(board, index, gate);
    }
    if pid < 0 {
        let error = io::Error::last_os_error();
        return Err(error).with_context(|| format!("forking child {}", index + 1));
    }
    Ok(Pid::new(pid)?)
}

/// The same for contestants that insist on starting their children themselves. The child never comes to
/// the exec: it lives its life before. Closing what it inherited, the pipe of the spawn
/// among it, it lets the spawn return, and keeps nobody's files open.
pub(crate) fn command(board: &Arc<Board>, index: usize, gate: Gate) -> Command {
    let board = Arc::clone(board);
    let parent = std::process::id();
    let mut command = Command::new("true");
    command.stdin(Stdio::null());
    let life = move || {
        // SAFETY: a plain system call; nothing here uses a descriptor any more.
        unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
        die_with(parent);
        live(&board, index, gate)
    };
    // SAFETY: the closure makes system calls only, and never returns.
    unsafe { command.pre_exec(life) };
    command
}

/// The same for a process that was exec'ed.
pub(crate) fn stand_by(board: &Path, index: usize, gate: Gate) -> Result<ExitCode> {
    let file = OpenOptions::new().read(true).write(true).open(board);
    let file = file.with_context(|| format!("opening {}", board.display()))?;
    let board = Board::map(file.into())?;
    ensure!(index < board.slots().len(), "there is no slot {index}");
    die_with(std::os::unix::process::parent_id());
    live(&board, index, gate)
}

/// Children of a load generator that was killed have no business here.
fn die_with(parent: u32) {
    // SAFETY: system calls without pointers.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        if libc::getppid() as u32 != parent {
            libc::_exit(1);
        }
    }
}

/// What a child does with its life: system calls only, on its slot.
fn live(board: &Board, index: usize, gate: Gate) -> ! {
    let seat = board.seat(index, gate);
    // SAFETY: system calls without pointers. What is unmapped is not touched any more: from there on no
    // function of libc is called, no static and no thread-local is read, and we never return.
    unsafe {
        // On the dot, not up to 50 µs later.
        libc::prctl(libc::PR_SET_TIMERSLACK, 1);
        seat.slot.pid.store(libc::getpid(), Ordering::Release);
        inheritance::give_up(&seat);
    }
    seat.wait();
    let due = seat.slot.due_ns.load(Ordering::Acquire);
    if due > 0 {
        bare::sleep_until(due);
    }
    seat.slot.stamp_ns.store(bare::now_ns(), Ordering::Release);
    bare::exit(code(index))
}
