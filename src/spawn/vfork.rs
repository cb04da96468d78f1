//! Making a child without copying the parent's memory.

#![allow(unsafe_code)]

use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};

use crate::Pid;
use crate::faults;
use crate::sync::per_process;
use crate::sys::SignalMask;

/// Room for what the child does before it execs.
const STACK_BYTES: usize = 256 * 1024;
/// Below it, so that running over is a fault and not a corruption.
const GUARD_BYTES: usize = 64 * 1024;

/// The child's stack. Its own: on the parent's the child would overwrite the frames that the parent
/// returns to.
struct Stack(*mut libc::c_void);

impl Stack {
    fn new() -> io::Result<Self> {
        let flags = MapFlags::PRIVATE | MapFlags::STACK | MapFlags::NORESERVE;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping of its own, at no given address.
        let bottom = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                GUARD_BYTES + STACK_BYTES,
                protection,
                flags,
            )
        }?;
        let stack = Self(bottom);
        // SAFETY: the lowest part of the mapping just made, which nobody uses.
        unsafe { mprotect(bottom, GUARD_BYTES, MprotectFlags::empty()) }?;
        Ok(stack)
    }

    /// Stacks grow downwards on all the machines that Linux has pidfds on, but for PA-RISC.
    fn top(&self) -> *mut libc::c_void {
        self.0.wrapping_byte_add(GUARD_BYTES + STACK_BYTES)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`; the child has left it.
        let _ = unsafe { munmap(self.0, GUARD_BYTES + STACK_BYTES) };
    }
}

/// What the child is to do, and with which signals blocked.
struct Task<F> {
    child: MaybeUninit<F>,
    mask: SignalMask,
}

/// Makes a child that shares the memory, and suspends this thread until it execs or ends
/// (`clone(2)` with `CLONE_VM | CLONE_VFORK`). The child runs `child` and ends: with code 0 if that
/// returns, 101 if it panics. `CLONE_PIDFD` since Linux 5.2.
///
/// # Safety
///
/// The child runs in this process's memory, beside its other threads. See
/// [`Watcher::vfork_watchable`](crate::Watcher::vfork_watchable).
pub(crate) unsafe fn vfork<F: FnOnce()>(child: F) -> io::Result<(Pid, OwnedFd)> {
    faults::inject("vfork")?;
    let stack = Stack::new()?;
    let mut task = Task {
        child: MaybeUninit::new(child),
        mask: SignalMask::of_this_thread(),
    };
    let mut pidfd: libc::c_int = -1;
    // A handler that ran in the child would run in the parent's memory; it starts with none
    // that could: all are blocked until it has reset them.
    let blocked = SignalMask::block_all();
    // SAFETY: the stack is fresh, and outlives the child's use of it, as does the task: this
    // thread is suspended until the child has left both.
    let pid = unsafe {
        libc::clone(
            run::<F>,
            stack.top(),
            libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD,
            (&raw mut task).cast(),
            &raw mut pidfd,
        )
    };
    let error = io::Error::last_os_error();
    // Said by the child, in this very memory.
    per_process::share_with_child(false);
    drop(blocked);
    if pid < 0 {
        // SAFETY: there was no child that could have taken it.
        unsafe { task.child.assume_init_drop() };
        return Err(error);
    }
    // What the child took was moved out of, in this very memory: it is not dropped again.
    // SAFETY: a successful clone with CLONE_PIDFD gives a new descriptor, ours alone.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok((
        Pid::new(pid).expect("clone gives the parent a positive pid"),
        pidfd,
    ))
}

extern "C" fn run<F: FnOnce()>(task: *mut libc::c_void) -> libc::c_int {
    // SAFETY: it is the task that `vfork` hands to `clone`, whose frame stands still meanwhile.
    let task = unsafe { &mut *task.cast::<Task<F>>() };
    // This thread's variables are the child's until it has left.
    per_process::share_with_child(true);
    reset_signals();
    task.mask.set();
    // SAFETY: read once, here; the parent does not touch it again.
    let child = unsafe { task.child.assume_init_read() };
    let end = catch_unwind(AssertUnwindSafe(child));
    // SAFETY: ends the child alone, without the exit handlers of the memory that it shares.
    unsafe { libc::_exit(if end.is_ok() { 0 } else { 101 }) }
}

/// Sets every signal that has a handler back to its default, in the child only: handlers are not
/// shared without `CLONE_SIGHAND`.
fn reset_signals() {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: plain C structures, filled before they are read; failures (SIGKILL and the
        // like) are of no consequence.
        unsafe {
            let mut action: libc::sigaction = mem::zeroed();
            if libc::sigaction(signal, ptr::null(), &raw mut action) == 0
                && action.sa_sigaction != libc::SIG_IGN
                && action.sa_sigaction != libc::SIG_DFL
            {
                action.sa_sigaction = libc::SIG_DFL;
                libc::sigaction(signal, &raw const action, ptr::null_mut());
            }
        }
    }
}
