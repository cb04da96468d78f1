//! Signals that report a fault of the program, such as SIGSEGV, and that another process can also
//! send.

use std::io;
use std::mem;
use std::ops::Range;
use std::sync::OnceLock;

use libc::c_int;

pub(super) const FAULTS: [i32; 6] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGTRAP,
    libc::SIGSYS,
];

/// The dispositions before `redirect_sent`.
static PREVIOUS: OnceLock<Vec<(i32, libc::sigaction)>> = OnceLock::new();

/// Treats a fault signal that a process sends as SIGTERM. A fault of this program ends it as
/// before.
pub(super) fn redirect_sent() -> io::Result<()> {
    let mut before = Vec::with_capacity(FAULTS.len());
    for signal in FAULTS {
        // SAFETY: all zeroes is a valid value of the C structure, and the call fills it.
        let old = unsafe {
            let mut old: libc::sigaction = mem::zeroed();
            match libc::sigaction(signal, std::ptr::null(), &raw mut old) {
                0 => old,
                _ => return Err(io::Error::last_os_error()),
            }
        };
        before.push((signal, old));
    }
    if PREVIOUS.set(before).is_err() {
        return Ok(());
    }
    for signal in FAULTS {
        // SAFETY: the handler only makes system calls and reads `PREVIOUS`, which was set before
        // and never changes. It runs on the stack that the standard library keeps for a stack
        // overflow.
        let set = unsafe {
            let mut action: libc::sigaction = mem::zeroed();
            action.sa_sigaction = handle as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
            libc::sigaction(signal, &raw const action, std::ptr::null_mut())
        };
        if set != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    catch_reserved();
    Ok(())
}

/// Signals that the C library reserves, and for which it has no handler while it does not use them.
/// glibc handles its second one from the first thread on. musl has three, and handles none.
const RESERVED: Range<c_int> = match cfg!(target_env = "musl") {
    true => 32..35,
    false => 32..33,
};

/// Catches the reserved signals, which would end the process if another process sent them. They are
/// not ignored, because programs would inherit that where the C library does not ignore them anyway
/// in what it spawns, as glibc does: an `exec` resets handlers only.
///
/// The `sigaction` of the C library refuses these signals, so this calls the kernel. The structure
/// of the kernel needs a function that returns from the handler, which only the library has; it is
/// taken from the action for SIGSEGV, which is set by then.
fn catch_reserved() {
    extern "C" fn ignore(_: c_int) {}
    if !cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
        return;
    }
    for signal in RESERVED {
        // Handler, flags, restorer, mask.
        let mut action = [0usize; 4];
        let none = std::ptr::null_mut::<usize>();
        let call = libc::SYS_rt_sigaction;
        let mask_bytes = size_of::<u64>();
        // SAFETY: the kernel writes this structure on these architectures.
        let read =
            unsafe { libc::syscall(call, libc::SIGSEGV, none, action.as_mut_ptr(), mask_bytes) };
        if read == 0 {
            action[0] = ignore as *const () as usize;
            action[1] |= libc::SA_RESTART as usize;
            // SAFETY: the handler does nothing, and the rest is from an action that is in use.
            unsafe { libc::syscall(call, signal, action.as_ptr(), none, mask_bytes) };
        }
    }
}

extern "C" fn handle(signal: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo to a handler with SA_SIGINFO.
    let sent = unsafe { (*info).si_code } <= 0;
    if sent {
        // SAFETY: the call takes no pointers.
        unsafe { libc::kill(libc::getpid(), libc::SIGTERM) };
        return;
    }
    let before = PREVIOUS.get().into_iter().flatten();
    for (_, action) in before.filter(|(number, _)| *number == signal) {
        // SAFETY: the action is the one that `redirect_sent` replaced. On return the processor
        // executes the instruction again, and its fault then has the previous disposition.
        unsafe { libc::sigaction(signal, action, std::ptr::null_mut()) };
    }
}
