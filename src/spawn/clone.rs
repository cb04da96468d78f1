//! The system call that makes a child in the memory of its parent.

#![allow(unsafe_code, reason = "clone and clone3 with CLONE_VM")]

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::Pid;
use crate::faults;

/// The function that a child starts in. It must not return.
pub(crate) type Entry = extern "C" fn(*mut c_void) -> libc::c_int;

/// What `clone3(2)` does besides making the child.
#[derive(Clone, Copy)]
pub(crate) struct Clone3<'a> {
    pub(crate) pidfd: bool,
    /// The cgroup that the child starts in.
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
}

/// A child, with its pidfd if that was asked for.
pub(crate) type Cloned = (Pid, Option<OwnedFd>);

/// `struct clone_args` of `<linux/sched.h>` (`CLONE_ARGS_SIZE_VER2`). Older kernels accept it as
/// long as the fields that they do not know are zero.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Since Linux 5.5, commit b612e5df4587. Ignored signals stay ignored.
const CLONE_CLEAR_SIGHAND: u64 = 1 << 32;
/// Since Linux 5.7, commit ef2c41cf38a7.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// Whether an error of [`clone3`] means that the call cannot be used here: it is unknown or denied
/// by a seccomp filter (`ENOSYS`, `EPERM`), or does not know a flag (`EINVAL`).
pub(crate) fn is_unavailable(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOSYS | libc::EPERM | libc::EINVAL)
    )
}

/// Makes a child that shares the memory of this process, and suspends the calling thread until the
/// child executes a program or ends (`CLONE_VM | CLONE_VFORK`). In the child, signals that have a
/// handler have their default action. Since Linux 5.5, with a cgroup 5.7.
///
/// # Safety
///
/// The stack is writable, large enough, and not used by others until the call returns. `entry` may
/// do with `argument`, and with the memory of this process, what it does, beside the other threads.
pub(crate) unsafe fn clone3(
    options: Clone3<'_>,
    stack: &Stack,
    entry: Entry,
    argument: *mut c_void,
) -> io::Result<Cloned> {
    faults::inject("clone3")?;
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: (libc::CLONE_VM | libc::CLONE_VFORK) as u64 | CLONE_CLEAR_SIGHAND,
        exit_signal: libc::SIGCHLD as u64,
        stack: stack.bottom as u64,
        stack_size: stack.size as u64,
        ..CloneArgs::default()
    };
    if options.pidfd {
        args.flags |= libc::CLONE_PIDFD as u64;
        args.pidfd = (&raw mut pidfd) as u64;
    }
    if let Some(cgroup) = options.cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: the arguments are filled in, and outlive the call; the caller vouches for the rest.
    let result = unsafe { raw_clone3(&raw const args, entry, argument) };
    if result < 0 {
        return Err(io::Error::from_raw_os_error(-result as i32));
    }
    // SAFETY: the kernel has filled in the pidfd, if it was asked for.
    unsafe { cloned(result as libc::pid_t, pidfd) }
}

/// Makes a child like [`clone3`], in the cgroup of this process and with copies of the actions of
/// its signals.
///
/// # Safety
///
/// That of [`clone3`].
pub(crate) unsafe fn clone(
    pidfd: bool,
    stack: &Stack,
    entry: Entry,
    argument: *mut c_void,
) -> io::Result<Cloned> {
    let mut descriptor: RawFd = -1;
    let mut flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    if pidfd {
        flags |= libc::CLONE_PIDFD;
    }
    // SAFETY: the top of the stack is aligned; the caller vouches for the rest.
    let pid = unsafe { libc::clone(entry, stack.top(), flags, argument, &raw mut descriptor) };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has filled in the pidfd, if it was asked for.
    unsafe { cloned(pid, descriptor) }
}

/// # Safety
///
/// The pidfd is -1, or a new descriptor without an owner.
unsafe fn cloned(pid: libc::pid_t, pidfd: RawFd) -> io::Result<Cloned> {
    let pidfd = match pidfd {
        -1 => None,
        // SAFETY: guaranteed by the caller.
        pidfd => Some(unsafe { OwnedFd::from_raw_fd(pidfd) }),
    };
    // The kernel returns a positive number to the parent.
    let pid = Pid::new(pid).map_err(|_| io::Error::from_raw_os_error(libc::ESRCH))?;
    Ok((pid, pidfd))
}

/// A part of the memory of this process for the stack of a child. Both ends are aligned to 16
/// bytes, as all architectures want it.
pub(crate) struct Stack {
    bottom: *mut c_void,
    size: usize,
}

impl Stack {
    pub(crate) fn new(bottom: *mut c_void, size: usize) -> Self {
        debug_assert!(bottom.addr() % 16 == 0 && size % 16 == 0);
        Self { bottom, size }
    }

    /// The initial stack pointer. Stacks grow downwards on all architectures
    /// of Linux except PA-RISC.
    fn top(&self) -> *mut c_void {
        self.bottom.wrapping_byte_add(self.size)
    }
}

/// The C library has no function for `clone3` with a stack. The child must not return into frames
/// of the parent, so the call and what follows it in the child are one piece of assembly.
///
/// # Safety
///
/// That of [`clone3`].
#[cfg(all(target_arch = "x86_64", target_pointer_width = "64"))]
unsafe fn raw_clone3(args: *const CloneArgs, entry: Entry, argument: *mut c_void) -> isize {
    let result;
    // SAFETY: the child continues on its own stack, calls `entry`, and never leaves it. The parent
    // continues at the label with all registers unchanged, except those that the system call
    // changes.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r13",
            "call r12",
            "ud2",
            "2:",
            in("r12") entry,
            in("r13") argument,
            inlateout("rax") libc::SYS_clone3 as isize => result,
            in("rdi") args,
            in("rsi") size_of::<CloneArgs>(),
            out("rcx") _,
            out("r11") _,
        );
    }
    result
}

/// # Safety
///
/// That of [`clone3`].
#[cfg(all(target_arch = "aarch64", target_pointer_width = "64"))]
unsafe fn raw_clone3(args: *const CloneArgs, entry: Entry, argument: *mut c_void) -> isize {
    let result;
    // SAFETY: as above.
    unsafe {
        std::arch::asm!(
            "svc #0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x20",
            "blr x21",
            "brk #1",
            "2:",
            in("x20") argument,
            in("x21") entry,
            in("x8") libc::SYS_clone3 as isize,
            inlateout("x0") args => result,
            in("x1") size_of::<CloneArgs>(),
        );
    }
    result
}

/// Other architectures use `clone(2)`, for which the C library has a function.
///
/// # Safety
///
/// None.
#[cfg(not(all(
    any(target_arch = "x86_64", target_arch = "aarch64"),
    target_pointer_width = "64"
)))]
unsafe fn raw_clone3(_args: *const CloneArgs, _entry: Entry, _argument: *mut c_void) -> isize {
    -(libc::ENOSYS as isize)
}
