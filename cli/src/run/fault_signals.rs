//! Signals that report a fault of the program, such as SIGSEGV, and that another process can also
//! send.

use std::io;
use std::mem;
use std::sync::OnceLock;

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
    ignore_sigcancel();
    Ok(())
}

/// Ignores the first of the two signals that the C library reserves. The library handles the second
/// one from the first thread on, and this one only when a thread is cancelled, which never happens
/// here. The library refuses to ignore it on request, but the signal is ignored in every program
/// that this process starts.
fn ignore_sigcancel() {
    // The structure of the kernel: handler, flags, and fields that stay zero.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    // SAFETY: the pointer refers to at least as many bytes as the kernel reads, and the call
    // installs no handler.
    unsafe {
        const SIGCANCEL: libc::c_int = 32;
        let action: [usize; 4] = [libc::SIG_IGN, 0, 0, 0];
        let none = std::ptr::null_mut::<usize>();
        libc::syscall(
            libc::SYS_rt_sigaction,
            SIGCANCEL,
            action.as_ptr(),
            none,
            size_of::<u64>(),
        );
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
