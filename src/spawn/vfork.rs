//! A child that runs a closure in the memory of its parent.

#![allow(unsafe_code, reason = "clone with CLONE_VM, and a stack for it")]

use std::ffi::c_void;
use std::io;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};

use super::clone::{self, Clone3, Cloned};
use super::signal_actions::reset_handlers;
use crate::faults;
use crate::sync::per_process;
use crate::sys::SignalMask;

/// The stack for what the child does before it executes a program.
const STACK_BYTES: usize = 256 * 1024;
/// The inaccessible part below the stack, which turns an overflow into a fault.
const GUARD_BYTES: usize = 64 * 1024;

/// The stack of the child. On the stack of the parent, the child would overwrite the frames to
/// which the parent returns.
struct Mapping(*mut c_void);

impl Mapping {
    fn new() -> io::Result<Self> {
        let flags = MapFlags::PRIVATE | MapFlags::STACK | MapFlags::NORESERVE;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let bottom = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                GUARD_BYTES + STACK_BYTES,
                protection,
                flags,
            )
        }?;
        let stack = Self(bottom);
        // SAFETY: the lowest part of the new mapping, which is not in use yet.
        unsafe { mprotect(bottom, GUARD_BYTES, MprotectFlags::empty()) }?;
        Ok(stack)
    }

    fn stack(&self) -> clone::Stack {
        clone::Stack::new(self.0.wrapping_byte_add(GUARD_BYTES), STACK_BYTES)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping of `new`, which the child no longer uses.
        let _ = unsafe { munmap(self.0, GUARD_BYTES + STACK_BYTES) };
    }
}

/// What the child runs, and the signal mask with which it starts.
struct Task<F> {
    closure: MaybeUninit<F>,
    mask: SignalMask,
    /// Whether the child has copies of the signal handlers.
    has_handlers: bool,
}

/// Makes a child that shares the memory of this process, and suspends the calling thread until the
/// child executes a program or ends (`clone(2)` with `CLONE_VM | CLONE_VFORK`). `CLONE_PIDFD` needs
/// Linux 5.2.
///
/// The child runs `child` and then ends: with code 0, or with code 101 after a panic.
///
/// # Safety
///
/// The child runs in the memory of this process, beside its other threads. See
/// [`Watcher::vfork_watchable`](crate::Watcher::vfork_watchable).
pub(crate) unsafe fn vfork<F: FnOnce()>(child: F) -> io::Result<Cloned> {
    faults::inject("vfork")?;
    let mapping = Mapping::new()?;
    let stack = mapping.stack();
    let mut task = Task {
        closure: MaybeUninit::new(child),
        mask: SignalMask::of_this_thread(),
        has_handlers: false,
    };
    let options = Clone3 {
        pidfd: true,
        cgroup: None,
    };
    // A signal handler in the child would run in the memory of the parent. So all signals are
    // blocked until the child has reset the handlers.
    let blocked = SignalMask::block_all();
    let argument: *mut c_void = (&raw mut task).cast();
    // SAFETY: the stack is new. It and the task outlive their use by the child, because this thread
    // is suspended until the child has left both.
    let mut cloned = unsafe { clone::clone3(options, &stack, child_main::<F>, argument) };
    if matches!(&cloned, Err(error) if clone::is_unavailable(error)) {
        task.has_handlers = true;
        let argument: *mut c_void = (&raw mut task).cast();
        // SAFETY: as above.
        cloned = unsafe { clone::clone(true, &stack, child_main::<F>, argument) };
    }
    // The child set this, in the memory that both share.
    per_process::set_in_vfork_child(false);
    drop(blocked);
    match cloned {
        // The child has moved the closure out of the shared memory, so it is not dropped again.
        Ok(cloned) => Ok(cloned),
        Err(error) => {
            // SAFETY: without a child, the closure was not moved out.
            unsafe { task.closure.assume_init_drop() };
            Err(error)
        }
    }
}

/// The function that the child starts in.
extern "C" fn child_main<F: FnOnce()>(task: *mut c_void) -> libc::c_int {
    // SAFETY: the pointer is to the task of `vfork`, whose frame is suspended meanwhile.
    let task = unsafe { &mut *task.cast::<Task<F>>() };
    // The thread-local variables belong to the child until it has left the memory.
    per_process::set_in_vfork_child(true);
    if task.has_handlers {
        reset_handlers();
    }
    task.mask.set();
    // SAFETY: the closure is read once, here; the parent does not use it again.
    let closure = unsafe { task.closure.assume_init_read() };
    let result = catch_unwind(AssertUnwindSafe(closure));
    // SAFETY: ends the child alone, without the exit handlers in the shared memory.
    unsafe { libc::_exit(if result.is_ok() { 0 } else { 101 }) }
}
