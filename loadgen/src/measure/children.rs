//! Children that wait at a gate, sleep until their due time, record when they exit, and exit.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, ensure};
use exitring::Pid;

use super::shared_table::{Gate, SharedTable};
use super::{raw_syscall, unmap};

/// The exit code of the child in a slot.
pub(crate) fn expected_code(index: usize) -> i32 {
    (index % 256) as i32
}

/// Forks the child of a slot.
pub(crate) fn fork(table: &SharedTable, index: usize, gate: Gate) -> Result<Pid> {
    let parent = std::process::id();
    // SAFETY: the child makes only system calls.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        set_parent_death_signal(parent);
        run_child(table, index, gate);
    }
    if pid < 0 {
        let error = io::Error::last_os_error();
        return Err(error).with_context(|| format!("forking child {}", index + 1));
    }
    Ok(Pid::new(pid)?)
}

/// A command that starts the child of a slot, for contestants that start children themselves.
///
/// The child does not get as far as the `exec`: it runs and exits in the `pre_exec` hook. It closes
/// all inherited descriptors first. One of them is the error pipe of the spawn, so the spawn
/// returns at once; and the child keeps no file of another part of the program open.
pub(crate) fn command(table: &Arc<SharedTable>, index: usize, gate: Gate) -> Command {
    let table = Arc::clone(table);
    let parent = std::process::id();
    let mut command = Command::new("true");
    command.stdin(Stdio::null());
    let child = move || {
        // SAFETY: a plain system call. The child does not use a descriptor from here on.
        unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
        set_parent_death_signal(parent);
        run_child(&table, index, gate)
    };
    // SAFETY: the closure makes only system calls, and never returns.
    unsafe { command.pre_exec(child) };
    command
}

/// Runs the child of a slot in a process that was started by an `exec` of this program.
pub(crate) fn stand_by(table: &Path, index: usize, gate: Gate) -> Result<ExitCode> {
    let file = OpenOptions::new().read(true).write(true).open(table);
    let file = file.with_context(|| format!("opening {}", table.display()))?;
    let table = SharedTable::map(file.into())?;
    ensure!(index < table.slots().len(), "there is no slot {index}");
    set_parent_death_signal(std::os::unix::process::parent_id());
    run_child(&table, index, gate)
}

/// Ends the child when its parent ends. A child whose parent has ended already has another parent.
fn set_parent_death_signal(parent: u32) {
    // SAFETY: system calls without pointers.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        if libc::getppid() as u32 != parent {
            libc::_exit(1);
        }
    }
}

/// The whole life of a child: system calls and accesses to its slot.
fn run_child(table: &SharedTable, index: usize, gate: Gate) -> ! {
    let child = table.child_slot(index, gate);
    // SAFETY: system calls without pointers. Nothing unmapped is accessed afterwards: from there on
    // the child calls no function of libc, reads no static and no thread-local, and never returns.
    unsafe {
        // Wakes up when it is due, not up to 50 µs later.
        libc::prctl(libc::PR_SET_TIMERSLACK, 1);
        child.slot.pid.store(libc::getpid(), Ordering::Release);
        unmap::unmap_unneeded(&child);
    }
    child.wait_at_gate();
    let due = child.slot.due_ns.load(Ordering::Acquire);
    if due > 0 {
        raw_syscall::sleep_until(due);
    }
    child
        .slot
        .stamp_ns
        .store(raw_syscall::now_ns(), Ordering::Release);
    raw_syscall::exit(expected_code(index))
}
