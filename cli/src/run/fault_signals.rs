//! SIGSEGV and others that report an error of the program itself, and that another process may send, too.

use std::io;
use std::mem;
use std::sync::OnceLock;

pub(in crate::run) const FAULTS: [i32; 6] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGTRAP,
    libc::SIGSYS,
];

/// What was done about them before.
static BEFORE: OnceLock<Vec<(i32, libc::sigaction)>> = OnceLock::new();

/// From now on those that a process sends are as SIGTERM. An error of our own ends us as before.
pub(in crate::run) fn survive_sent_ones() -> io::Result<()> {
    let mut before = Vec::with_capacity(FAULTS.len());
    for signal in FAULTS {
        // SAFETY: a plain C structure for which all zeroes is a valid value, filled by the call.
        let old = unsafe {
            let mut old: libc::sigaction = mem::zeroed();
            match libc::sigaction(signal, std::ptr::null(), &raw mut old) {
                0 => old,
                _ => return Err(io::Error::last_os_error()),
            }
        };
        before.push((signal, old));
    }
    if BEFORE.set(before).is_err() {
        return Ok(());
    }
    for signal in FAULTS {
        // SAFETY: the handler makes system calls only, and reads what was set before and never changes. It runs on the stack that
        // the standard library keeps for a stack overflow.
        let set = unsafe {
            let mut ours: libc::sigaction = mem::zeroed();
            ours.sa_sigaction = come as *const () as usize;
            ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
            libc::sigaction(signal, &raw const ours, std::ptr::null_mut())
        };
        if set != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    ignore_cancel();
    Ok(())
}

/// The first of the two that the C library keeps for itself: it handles the other from the first thread on, and this one only
/// when a thread is cancelled, which none is. It does not let it be ignored either, but ignores it in whatever is started.
fn ignore_cancel() {
    // The kernel's own structure: what is done, flags, and more that is nothing.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    // SAFETY: the pointer is to as many bytes as the kernel reads, or more; no handler is installed.
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

extern "C" fn come(signal: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel gives a handler with SA_SIGINFO what it knows of the signal.
    let sent = unsafe { (*info).si_code } <= 0;
    if sent {
        // SAFETY: no pointers.
        unsafe { libc::kill(libc::getpid(), libc::SIGTERM) };
        return;
    }
    let before = BEFORE.get().into_iter().flatten();
    for (_, action) in before.filter(|(number, _)| *number == signal) {
        // The instruction is executed again, with what was done about its error before.
        // SAFETY: the action is the one that was there before.
        unsafe { libc::sigaction(signal, action, std::ptr::null_mut()) };
    }
}
