//! `fork(2)`.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::Pid;
use crate::faults;

/// Forks a child, which runs `child` and then ends: with code 0, or with code 101 after a panic.
///
/// # Safety
///
/// In a process with several threads, `child` may only do what is async-signal-safe: the locks that
/// other threads held stay locked in the child forever.
pub(crate) unsafe fn fork(child: impl FnOnce()) -> io::Result<Pid> {
    faults::inject("fork")?;
    // SAFETY: the caller guarantees what the child does.
    let pid = unsafe { libc::fork() };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    if pid == 0 {
        // A panic must not unwind into the frames of the caller, which belong to the parent.
        let result = catch_unwind(AssertUnwindSafe(child));
        // SAFETY: ends the process at once, without the exit handlers of the parent.
        unsafe { libc::_exit(if result.is_ok() { 0 } else { 101 }) }
    }
    Ok(Pid::new(pid).expect("fork returns a positive pid to the parent"))
}
