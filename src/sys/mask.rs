//! Which signals a thread blocks.

use std::mem;

/// A set of blocked signals.
#[derive(Clone, Copy)]
pub(crate) struct SignalMask(libc::sigset_t);

/// What a thread brings upon itself, for which handlers run on that very thread: faults (stack overflow, garbage collectors,
/// compiled WebAssembly), traps of seccomp, `abort(3)`; and the timers of profilers.
const SYNCHRONOUS: [libc::c_int; 9] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGSYS,
    libc::SIGABRT,
    libc::SIGPROF,
    libc::SIGVTALRM,
];

impl SignalMask {
    /// What the calling thread blocks.
    pub(crate) fn of_this_thread() -> Self {
        // SAFETY: a null set changes nothing; the set is filled before it is read.
        unsafe {
            let mut mask: libc::sigset_t = mem::zeroed();
            libc::pthread_sigmask(libc::SIG_SETMASK, std::ptr::null(), &raw mut mask);
            Self(mask)
        }
    }

    /// Every signal.
    fn all() -> Self {
        // SAFETY: the set is filled before it is read.
        unsafe {
            let mut mask: libc::sigset_t = mem::zeroed();
            libc::sigfillset(&raw mut mask);
            Self(mask)
        }
    }

    /// Has the calling thread block every signal, until the result is dropped.
    pub(crate) fn block_all() -> MaskApplied {
        Self::all().block()
    }

    /// Has the calling thread block, besides what it blocks, all signals but the [`SYNCHRONOUS`], until the result is dropped.
    pub(crate) fn block_asynchronous() -> MaskApplied {
        let Self(mut mask) = Self::all();
        for signal in SYNCHRONOUS {
            // SAFETY: the set is initialised, and there are such signals.
            unsafe { libc::sigdelset(&raw mut mask, signal) };
        }
        Self(mask).block()
    }

    fn block(&self) -> MaskApplied {
        // SAFETY: both are plain C structures; the old set is filled before it is read.
        unsafe {
            let mut before: libc::sigset_t = mem::zeroed();
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const self.0, &raw mut before);
            MaskApplied(Self(before))
        }
    }

    pub(crate) fn set(&self) {
        // SAFETY: the set is initialised; where to put the old one is not given.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut());
        }
    }
}

/// Sets the mask back when dropped.
#[must_use = "the mask is set back at once"]
pub(crate) struct MaskApplied(SignalMask);

impl Drop for MaskApplied {
    fn drop(&mut self) {
        self.0.set();
    }
}
